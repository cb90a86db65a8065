#include "range_steps.h"

#include <cstdlib>

#include "tables.h"

namespace nnc {

namespace {

// Where a step of an estimator can lead at most.
constexpr std::int64_t farthest(std::size_t fast) {
  std::int64_t most = 0;
  for (const detail::Steps& steps : kSteps)
    for (unsigned i = 0; i < 32; ++i) {
      const std::int64_t top = 128 * (static_cast<std::int64_t>(i) - 16) + 127;
      const std::int64_t to = top + steps.step[32 + i + (fast ? 0 : static_cast<unsigned>(detail::Steps::kSlow))];
      if (i < 31 && to > most) most = to;  // the last step is zero
    }
  return most;
}
static_assert(farthest(0) + farthest(1) < RangeSteps::kEquiprobable, "estimators stay below the place of equiprobable bins");

RangeStep step_to(unsigned next, unsigned shift, unsigned added) { return (next - 256) | shift << 8 | added << 16; }

RangeStep symbol(unsigned width, unsigned column, bool less_probable) {
  const unsigned lps = kLps[(width >> 5) & 7][column];
  const unsigned part = less_probable ? lps : width - lps;
  const unsigned shift = static_cast<unsigned>(__builtin_clz(part)) - 23;
  return step_to(part << shift, shift, less_probable ? (width - lps) << shift : 0);
}

}  // namespace

RangeSteps::RangeSteps() : steps_(), stripes_() {
  for (unsigned i = 0; i < 256; ++i) {
    const unsigned width = i + 256;
    for (unsigned column = 0; column < kLpsColumns; ++column)
      for (unsigned less_probable = 0; less_probable < 2; ++less_probable)
        steps_[2 * column + less_probable][i] = symbol(width, column, less_probable);
    for (unsigned bit = 0; bit < 2; ++bit) steps_[kStripes - 2 + bit][i] = step_to(width, 1, bit * width);
  }
  for (std::size_t place = 0; place < 128; ++place) {
    const std::size_t bit = place / 64;
    const int column = static_cast<int>(place % 64) - 32;
    const bool less_probable = bit != (column >= 0);
    const std::size_t magnitude = static_cast<std::size_t>(std::abs(column));
    stripes_[place] = &steps_[column == 31 ? kStripes - 2 + bit : 2 * (magnitude < 32 ? magnitude : 31) + less_probable];
  }
}

const RangeSteps& range_steps() {
  static const RangeSteps steps;
  return steps;
}

}  // namespace nnc
