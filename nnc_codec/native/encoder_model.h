// Adaptive probability models as the encoder keeps them, and lists of bins for them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "model.h"
#include "range_steps.h"
#include "tables.h"

namespace nnc {

// A Model without what only a decoder has to have at hand.
struct alignas(16) EncoderModel {
  const detail::Steps* steps;  // of the parameter set
  std::int32_t fast;           // 16 * f
  std::int32_t slow;           // s

  void load(unsigned parameter_set) {
    steps = &kSteps[parameter_set];
    restart();
  }
  std::size_t parameter_set() const { return static_cast<std::size_t>(steps - kSteps.data()); }
  // Back to the start of the parameter set.
  void restart() {
    const ParameterSet& p = kParameterSet[parameter_set()];
    fast = 16 * p.f;
    slow = p.s;
  }
  // Makes it the model of equiprobable bins, which never moves and has no parameter set.
  void fix() {
    steps = &kNoSteps;
    fast = 16 * 127;
    slow = RangeSteps::kEquiprobable - fast;
  }

  // Moves by a bin; returns the bin's place among the stripes of RangeSteps.
  NNC_INLINE std::size_t move(std::int64_t bit) {
    const std::int64_t* const by = steps->step + 32 * bit + 16;
    const std::int64_t f = fast, s = slow;
    fast = static_cast<std::int32_t>(f + by[(f + bit - 1) >> 7]);
    slow = static_cast<std::int32_t>(s + by[((s + bit - 1) >> 7) + detail::Steps::kSlow]);
    return static_cast<std::size_t>(((f + s) >> 7) + 32 + 64 * bit);
  }

  NNC_INLINE Model expanded() const {
    Model m;
    m.steps = steps;
    m.set(fast, slow);
    return m;
  }
  NNC_INLINE void take_over(const Model& m) {
    fast = m.fast;
    slow = m.slow;
  }

 private:
  static constexpr detail::Steps kNoSteps{};
};

// A bin to be coded: its model, by index, and its value. The index stands where it is the model's offset in memory; the
// 1,112 models of the longest cabac_unary_length fit.
inline constexpr unsigned kBinBits = 4;
static_assert(sizeof(EncoderModel) == std::size_t{1} << kBinBits, "offsets of models are made from indices without a shift");
inline std::uint16_t bin_of(std::uint32_t model, unsigned bit) { return static_cast<std::uint16_t>(model << kBinBits | bit); }

}  // namespace nnc
