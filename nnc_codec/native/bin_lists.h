// Levels as ready lists of bins.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "contexts.h"
#include "cpu.h"
#include "encoder_model.h"

namespace nnc {

// The model of equiprobable bins in lists, one behind those of the layout.
inline std::uint32_t equiprobable(const ContextLayout& c) { return c.count; }

// The greater-than flags of small magnitudes as lists of bin_of(), so that a level becomes bins without a branch. For
// unary lengths up to kLongest the magnitude after the last one in the table stands for all that have a remainder.
struct MagnitudeBins {
  static constexpr std::uint32_t kLongest = 16;
  std::uint32_t largest;  // magnitude in the table
  std::uint8_t count[kLongest + 2];
  std::uint16_t list[2][kLongest + 2][kLongest];  // by sign and magnitude

  explicit MagnitudeBins(const ContextLayout& c, std::uint32_t unary) : largest(std::min(unary, kLongest)), count(), list() {
    for (std::uint32_t m = 1; m <= largest + 1; ++m) {
      count[m] = static_cast<std::uint8_t>(std::min(m, largest));
      for (std::uint32_t negative = 0; negative < 2; ++negative)
        for (std::uint32_t j = 0; j < count[m]; ++j)
          list[negative][m][j] = bin_of(c.gt + 2 * j + negative, j + 1 < m);
    }
  }
};

// The remainders of magnitudes likewise.
class RemainderBins {
 public:
  static constexpr std::uint32_t kTop = 510;       // largest remainder
  static constexpr std::uint32_t kBins = 8 + 1 + 8;  // most bins, and all that is written

  explicit RemainderBins(const ContextLayout& c) : esc_(c.esc), base_(bin_of(equiprobable(c), 0)), more_() {
    for (std::uint32_t k = 0; k < kBits; ++k) more_[k] = bin_of(c.esc + k, 1);
  }
  // Returns the length of the suffix, of equiprobable bins; the prefix is one longer.
  NNC_INLINE unsigned write(std::uint32_t remainder, std::uint16_t* list) const {
    const unsigned p = 31u - static_cast<unsigned>(__builtin_clz(remainder + 1));
    std::memcpy(list, more_, sizeof more_);
    list[p] = bin_of(esc_ + p, 0);
    const std::uint16_t* const bits = kByteBits[((remainder + 1) << (kBits - p)) & 0xffu].data();
    for (std::uint32_t i = 0; i < kBits; ++i) list[p + 1 + i] = bits[i] | base_;
    return p;
  }

 private:
  static constexpr std::uint32_t kBits = 8;
  // A byte's bits, most significant first.
  using ByteBits = std::array<std::array<std::uint16_t, kBits>, 256>;
  static constexpr ByteBits make_byte_bits() {
    ByteBits t{};
    for (std::uint32_t byte = 0; byte < 256; ++byte)
      for (std::uint32_t i = 0; i < kBits; ++i) t[byte][i] = byte >> (kBits - 1 - i) & 1u;
    return t;
  }
  static const ByteBits kByteBits;

  std::uint32_t esc_;
  std::uint16_t base_;
  std::uint16_t more_[kBits];
};
inline constexpr RemainderBins::ByteBits RemainderBins::kByteBits = make_byte_bits();

}  // namespace nnc
