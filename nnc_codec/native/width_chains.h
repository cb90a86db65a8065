// The interval's widths along a list of bins, in several stretches at a time.
//
// Each width follows from the one before it, and waiting for it is most of what a bin costs. But two lists of widths over
// the same bins that are equal once are equal from then on, and it does not take long until they are. So stretches are
// walked side by side, all but the first from a guess; what comes before the place where a stretch meets the right widths
// is walked again.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "range_steps.h"

namespace nnc {

inline constexpr std::size_t kChains = 4;
inline constexpr std::size_t kShortestChain = 1024;

// Steps over `count` bins, given by their places, from a width less 256. Returns the last width.
NNC_INLINE std::uint64_t walk_widths(const RangeSteps& steps, const std::uint8_t* places, std::size_t count,
                                     std::uint64_t width, RangeStep* out) {
  const auto next = [&](std::size_t i, std::uint64_t from) { return out[i] = steps.stripe(places[i])[from & 0xffu]; };
  const std::size_t length = count / kChains;
  if (length < kShortestChain) {
    for (std::size_t i = 0; i < count; ++i) width = next(i, width);
    return width & 0xffu;
  }
  std::uint64_t a = width, b = 0, c = 0, d = 0;
  for (std::size_t i = 0; i < length; ++i) {
    a = next(i, a);
    b = next(i + length, b);
    c = next(i + 2 * length, c);
    d = next(i + 3 * length, d);
  }
  for (std::size_t i = kChains * length; i < count; ++i) d = next(i, d);
  // `a` is right; a stretch that it goes through to the end without a meeting is right from then on.
  const std::uint64_t ends[kChains] = {a, b, c, d};
  std::uint64_t right = a;
  for (std::size_t k = 1; k < kChains; ++k) {
    const std::size_t end = k + 1 == kChains ? count : (k + 1) * length;
    std::size_t i = k * length;
    for (; i < end; ++i) {
      const RangeStep guessed = out[i];
      right = next(i, right);
      if (((right ^ guessed) & 0xffu) == 0) break;
    }
    if (i < end) right = ends[k];
  }
  return right & 0xffu;
}

}  // namespace nnc
