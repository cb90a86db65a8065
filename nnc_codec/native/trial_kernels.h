// Kernels of the parameter-set search: what a string of bins costs with each of the nine parameter sets.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "cost.h"
#include "cpu.h"
#include "tables.h"

namespace nnc {

// Estimators of the nine sets, one 16-bit lane each; the last seven lanes are idle.
struct alignas(32) TrialLanes {
  std::int16_t f[16];
  std::int16_t s[16];
  bool operator==(const TrialLanes& other) const {
    return std::equal(f, f + kParameterSets, other.f) && std::equal(s, s + kParameterSets, other.s);
  }
};
using TrialCosts = std::array<std::uint64_t, kParameterSets>;

// Tries `count` <= 64 bins, the first one in the lowest bit of `word`, and adds their costs.
void try_bins(TrialLanes& lanes, std::uint64_t word, unsigned count, TrialCosts& sum);

}  // namespace nnc
