#include "cost.h"

#include <algorithm>
#include <cmath>

namespace nnc {

namespace {

CostTable build() {
  CostTable t{};
  constexpr double slope = 400.798945;  // closed form of the 2 x 512 published numbers
  for (int k = 0; k < 512; ++k) {
    const double bits = 32768.0 + slope * (k + 0.5);
    t.lps[static_cast<std::size_t>(k)] = static_cast<std::uint32_t>(std::lround(bits));
    t.mps[static_cast<std::size_t>(k)] =
        static_cast<std::uint32_t>(std::lround(-32768.0 * std::log2(1.0 - std::exp2(-bits / 32768.0))));
  }
  for (int i = 0; i < 1024; ++i) {
    const int q8 = i - 512;
    const int a = q8 < 0 ? -q8 : q8;
    const std::size_t k = static_cast<std::size_t>(a > 511 ? 511 : a);
    t.bit[1][static_cast<std::size_t>(i)] = q8 >= 0 ? t.mps[k] : t.lps[k];
    t.bit[0][static_cast<std::size_t>(i)] = q8 >= 0 ? t.lps[k] : t.mps[k];
  }
  std::reverse_copy(t.bit[0].begin(), t.bit[0].end(), t.mirrored_zero.begin());
  return t;
}

}  // namespace

const CostTable& cost_table() {
  static const CostTable table = build();
  return table;
}

}  // namespace nnc
