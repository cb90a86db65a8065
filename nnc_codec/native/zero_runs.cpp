#include "zero_runs.h"

namespace nnc {

namespace {

unsigned after_zero(unsigned width, unsigned column) {
  const unsigned next = width - kLps[(width - 256) >> 5][column];
  return next < 256 ? next << 1 : next;
}

bool same_column(unsigned a, unsigned b) {
  for (const auto& by_column : kLps)
    if (by_column[a] != by_column[b]) return false;
  return true;
}

}  // namespace

ZeroPairs::ZeroPairs() : first_(), second_(), widths_() {
  unsigned columns[kKinds];  // one of each kind
  unsigned kinds = 0;
  for (unsigned c = kFirstColumn; c < kLpsColumns; ++c) {
    if (kinds == 0 || !same_column(c, columns[kinds - 1])) columns[kinds++] = c;
    first_[c] = static_cast<std::uint16_t>((kinds - 1) * kKinds * 256);
    second_[c] = static_cast<std::uint16_t>((kinds - 1) * 256);
  }
  for (unsigned a = 0; a < kinds; ++a)
    for (unsigned b = 0; b < kinds; ++b)
      for (unsigned w = 0; w < 256; ++w)
        widths_[(a * kKinds + b) * 256 + w] =
            static_cast<std::uint8_t>(after_zero(after_zero(256 + w, columns[a]), columns[b]) - 256);
}

const ZeroPairs& zero_pairs() {
  static const ZeroPairs pairs;
  return pairs;
}

}  // namespace nnc
