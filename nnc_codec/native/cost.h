// Cost of a bin in 2^-15 bit, as the reference software estimates it.
#pragma once
#include <array>
#include <cstdint>

namespace nnc {

inline constexpr std::uint32_t kBypassCost = 32768;

struct CostTable {
  std::array<std::uint32_t, 512> lps, mps;           // by min(|q >> 3|, 511)
  std::array<std::array<std::uint32_t, 1024>, 2> bit;  // by bit value and (q >> 3) + 512
  std::array<std::uint32_t, 1024> mirrored_zero;       // of a zero, by ((-q - 1) >> 3) + 512
};

// Built once, thread safe.
const CostTable& cost_table();

}  // namespace nnc
