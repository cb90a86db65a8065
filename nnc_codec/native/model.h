// Adaptive binary probability model: two estimators of different speed, with the LPS row for its state at hand.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "tables.h"

namespace nnc {

struct alignas(32) Model {
  std::uint64_t row;           // LPS width for each width class
  const detail::Steps* steps;  // of the parameter set
  std::int64_t q;              // fast + slow; the more probable symbol is 1 if q >= 0
  std::int32_t fast;           // 16 * f
  std::int32_t slow;           // s

  void load(unsigned parameter_set) {
    steps = &kSteps[parameter_set];
    restart();
  }
  // Back to the start of the parameter set.
  void restart() {
    const ParameterSet& p = kParameterSet[steps - kSteps.data()];
    set(16 * p.f, p.s);
  }
  NNC_INLINE void set(std::int32_t f, std::int32_t s) {
    fast = f;
    slow = s;
    refresh(f, s);
  }

  NNC_INLINE void update(std::int64_t bit) {
    const std::int64_t* const by = steps->step + 32 * bit + 16;
    std::int64_t f = fast, s = slow;
    f += by[(f + bit - 1) >> 7];
    s += by[((s + bit - 1) >> 7) + detail::Steps::kSlow];
    fast = static_cast<std::int32_t>(f);
    slow = static_cast<std::int32_t>(s);
    refresh(f, s);
  }

 private:
  NNC_INLINE void refresh(std::int64_t f, std::int64_t s) {
    q = f + s;
    row = kRows[static_cast<std::size_t>((q >> 7) + 32)];
  }
};

}  // namespace nnc
