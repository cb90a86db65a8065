// Adaptive binary probability model: two estimators of different speed, with the LPS row for its state at hand.
#pragma once
#include <cstdint>

#include "tables.h"

namespace nnc {

struct alignas(16) Model {
  std::uint64_t row;         // LPS width for each width class
  std::int16_t s;            // slow estimator, 12 bits used
  std::int8_t f;             // fast estimator
  std::uint8_t mps;          // more probable symbol
  std::uint8_t fast_shift;
  std::uint8_t slow_shift;
  std::uint8_t set;          // parameter set, kept for restarts

  int q() const { return 16 * f + s; }

  void load(unsigned parameter_set) {
    const ParameterSet& p = kParameterSet[parameter_set];
    f = p.f;
    s = p.s;
    fast_shift = p.fast_shift;
    slow_shift = p.slow_shift;
    set = static_cast<std::uint8_t>(parameter_set);
    refresh();
  }
  void restart() { load(set); }

  void update(unsigned bit) {
    f = kFast.next[fast_shift][bit][static_cast<std::uint8_t>(f)];
    s = static_cast<std::int16_t>(s + kSlow.add[slow_shift][bit][((s - static_cast<int>(bit ^ 1u)) >> 7) + 16]);
    refresh();
  }

  // True if a further zero would leave the estimators where they are.
  bool stands_still_on_zero() const {
    return kFast.next[fast_shift][0][static_cast<std::uint8_t>(f)] == f &&
           kSlow.add[slow_shift][0][((s - 1) >> 7) + 16] == 0;
  }

 private:
  void refresh() {
    const int value = q();
    row = kRows[static_cast<std::size_t>((value >> 7) + 32)];
    mps = value >= 0;
  }
};
static_assert(sizeof(Model) == 16, "two models to a 32-byte half line");

}  // namespace nnc
