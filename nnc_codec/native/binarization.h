// Levels to bins: one walk over a tensor in coding order, used by the encoder and by the parameter-set search.
#pragma once
#include <cstdint>

#include "contexts.h"

namespace nnc {

// Level of a multiple in a state: the inverse of 2 * level - sgn(level) * (state & 1). A multiple that the state cannot
// reach is rounded towards minus infinity, as the reference software does.
inline std::int32_t level_of(std::int32_t multiple, std::uint32_t state) {
  const std::int64_t odd = state & 1u;
  return static_cast<std::int32_t>((multiple < 0 ? multiple - odd : multiple + odd) >> 1);
}

// Emit needs bin(model, bit) and bypass(value, bits).
template <class Emit>
inline void emit_magnitude(Emit& emit, const ContextLayout& c, const LevelContext* k, std::uint64_t magnitude,
                           bool negative, std::uint32_t unary, std::uint64_t top) {
  std::uint64_t reached = 1;
  std::uint32_t j = 0;
  const std::uint32_t plain = c.gt + negative;
  while (j < unary && reached < top) {
    const bool more = magnitude > reached;
    emit.bin(k ? greater_model(c, *k, j, negative) : plain + 2 * j, more);
    if (!more) return;
    ++reached;
    ++j;
  }
  if (reached >= top) return;
  std::uint32_t p = 0;
  while (p < 31 && (p == 0 || top >= reached + (std::uint64_t{1} << p))) {
    const bool more = magnitude >= reached + (std::uint64_t{1} << p);
    emit.bin(c.esc + p, more);
    if (!more) break;
    reached += std::uint64_t{1} << p;
    ++p;
  }
  emit.bypass(static_cast<std::uint32_t>(magnitude - reached), p);
}

// Emit also needs level(), called before every level, and block_row(state), called before every block row but the first.
//
// Trial: the search of the reference software. It binarizes the integers as given (multiples, not levels), ignores a
// codebook's bounds, and does not forget the neighbour at block rows. Identical bytes need all three.
template <bool Trial, bool DQ, class Emit>
void walk_levels(const TensorCoding& t, const ContextLayout& c, const std::int32_t* values, const std::uint8_t* skip,
                 bool hist_on, Emit& emit) {
  const std::uint64_t size = Trial ? 0 : t.bound_size();
  const bool only_positive = size && t.codebook_zero == 0;
  const bool only_negative = size && t.codebook_zero == size - 1;
  const bool contexts = t.temporal() || hist_on;
  std::uint32_t state = 0;
  std::int32_t prev = 0;
  for_each_segment(
      t.rows, t.cols, t.effective_scan(),
      [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool starts_block_row) {
        if (starts_block_row) {
          emit.block_row(state);
          if (!Trial) prev = 0;
        }
        if (skip && skip[y]) {
          if (DQ) state = skip_state(state, t.cols);
          return true;
        }
        const std::uint64_t base = y * t.cols + x;
        for (std::uint64_t i = 0; i < width; ++i) {
          emit.level();
          const std::int32_t multiple = values[base + i];
          const std::int32_t level = DQ ? level_of(multiple, state) : multiple;
          const std::int32_t coded = Trial ? multiple : level;
          LevelContext k;
          if (contexts)
            k = level_context(c, state, prev, t.temporal() ? t.reference[base + i] : 0, hist_on && t.history[base + i]);
          emit.bin(contexts ? k.sig : c.sig + 3 * state + neighbour_class(prev), coded != 0);
          if (coded) {
            const bool negative = coded < 0;
            if (!only_positive && !only_negative) emit.bin(contexts ? k.sign : c.sign + neighbour_class(prev), negative);
            emit_magnitude(emit, c, contexts && k.reference ? &k : nullptr, magnitude_of(coded), negative,
                           t.unary_length, Trial ? ~std::uint64_t{0} : t.top(negative));
          }
          prev = coded;
          if (DQ) state = kNextState[state][level & 1];
        }
        return true;
      });
}

}  // namespace nnc
