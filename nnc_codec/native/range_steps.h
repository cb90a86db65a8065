// The arithmetic encoder's interval, bin by bin, by table: next width, renormalisation and what is added to the low end.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace nnc {

// One step from a width: next width less 256 in bits 0 to 7, shift of the low end in bits 8 to 15, and from bit 16 on what
// is added to it after the shift.
using RangeStep = std::uint32_t;

// By width less 256.
using RangeStripe = std::array<RangeStep, 256>;

class RangeSteps {
 public:
  RangeSteps();
  // Of a model with q = fast + slow, by (q >> 7) + 32 + 64 * bit. No pair of estimators reaches the last place: there it is
  // an equiprobable bin that is coded.
  const RangeStep* stripe(std::size_t place) const { return stripes_[place]->data(); }

  static constexpr std::int32_t kEquiprobable = 31 << 7;  // q of such a bin

 private:
  static constexpr std::size_t kStripes = 66;  // 32 columns with the more and the less probable symbol, a plain zero and one
  std::array<RangeStripe, kStripes> steps_;
  std::array<const RangeStripe*, 128> stripes_;
};

// Built once, thread safe.
const RangeSteps& range_steps();

}  // namespace nnc
