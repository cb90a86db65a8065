// Runs of zeros whose models are all but certain of them, four bins at a time.
//
// The more probable symbol keeps the lower end of the interval, so a row of them only narrows it: one comparison at the
// end tells whether all of them were there. And a model whose two estimators lean to zero is lowered by the same steps
// with every zero until it stands still, so that its LPS widths are known ahead.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "model.h"

namespace nnc {

// Width after two zeros, by the LPS columns of both and the width; 256 is taken off all widths. Over four zeros of these
// columns the interval is doubled at most once, and then and only then is it wider than before.
class ZeroPairs {
 public:
  static constexpr unsigned kFirstColumn = 21;

  ZeroPairs();
  const std::uint8_t* of(std::int32_t first, std::int32_t second) const {
    return widths_.data() + first_[static_cast<unsigned>(first) & 31] + second_[static_cast<unsigned>(second) & 31];
  }

 private:
  static constexpr unsigned kKinds = 6;  // different columns from the first one on
  std::array<std::uint16_t, kLpsColumns> first_, second_;
  std::array<std::uint8_t, kKinds * kKinds * 256> widths_;
};

// Built once, thread safe.
const ZeroPairs& zero_pairs();

using FourInts = std::int32_t __attribute__((vector_size(16)));
NNC_INLINE FourInts larger(FourInts a, FourInts b) { return a > b ? a : b; }
NNC_INLINE FourInts smaller(FourInts a, FourInts b) { return a < b ? a : b; }

// True if a model may be in such a run.
NNC_INLINE bool in_tail(const Model& m) {
  return m.q <= -std::int64_t{128 * (ZeroPairs::kFirstColumn - 1) + 1} && m.fast <= 0 && m.slow <= 0;
}
template <unsigned Length>
NNC_INLINE bool all_in_tail(Model* const* cycle) {
  bool all = true;
  for (unsigned i = 0; i < Length; ++i) all &= in_tail(*cycle[i]);
  return all;
}

// Up to `limit` zeros that go around `Length` = 1, 2 or 4 models in their tails. Coder needs four(first pair, second pair),
// which takes four zeros or returns false, and run(limit), which takes zeros of models with the smallest LPS widths and
// stops early only before a one. Returns the number of zeros taken; if it is below `limit`, a one is among the next four
// bins unless fewer are left.
template <unsigned Length, class Coder>
NNC_INLINE std::size_t take_tails(Model* const* cycle, std::size_t limit, Coder& coder) {
  constexpr std::int32_t kFloor = -1920;  // an estimator stands still from here on
  constexpr std::int32_t kOwn = 4 / Length;  // zeros of each model among four
  const ZeroPairs& pairs = zero_pairs();
  FourInts fast, slow, fast_step, slow_step;  // one lane per bin
  for (unsigned i = 0; i < 4; ++i) {
    const Model& m = *cycle[i % Length];
    fast[i] = m.fast;
    slow[i] = m.slow;
    fast_step[i] = static_cast<std::int32_t>(m.steps->fast(0, 15));
    slow_step[i] = static_cast<std::int32_t>(m.steps->slow(0, 15));
  }
  // Steps are powers of two or zero.
  const FourInts fast_end = smaller(fast, kFloor - ((kFloor - fast) & (-fast_step - 1)));
  const FourInts slow_end = smaller(slow, kFloor - ((kFloor - slow) & (-slow_step - 1)));
  const FourInts before = FourInts{0, 1, 2, 3} / static_cast<std::int32_t>(Length);
  fast = larger(fast + before * fast_step, fast_end);
  slow = larger(slow + before * slow_step, slow_end);
  std::size_t n = 0;
  for (; limit - n >= 4; n += 4) {
    const FourInts column = (127 - fast - slow) >> 7;
    if ((column[0] & column[1] & column[2] & column[3]) >= kLpsColumns - 2) {
      const std::size_t run = coder.run(limit - n);
      n += run;
      // Enough of them are as good as all.
      const std::int32_t zeros = static_cast<std::int32_t>(std::min<std::size_t>(run, 8192));
      const FourInts own = (zeros + static_cast<std::int32_t>(Length) - 1 - FourInts{0, 1, 2, 3}) / static_cast<std::int32_t>(Length);
      fast = larger(fast + own * fast_step, fast_end);
      slow = larger(slow + own * slow_step, slow_end);
      break;
    }
    if (!coder.four(pairs.of(column[0], column[1]), pairs.of(column[2], column[3]))) break;
    fast = larger(fast + kOwn * fast_step, fast_end);
    slow = larger(slow + kOwn * slow_step, slow_end);
  }
  for (unsigned i = 0; i < Length; ++i) cycle[i]->set(fast[i], slow[i]);
  return n;
}

}  // namespace nnc
