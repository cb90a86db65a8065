// Levels to bins: one walk over a tensor in coding order, used by the encoder and by the parameter-set search.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "contexts.h"
#include "cpu.h"

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

// The greater-than flags of small magnitudes as lists of (model << 1 | bit), so that a level becomes bins without a branch.
struct MagnitudeBins {
  static constexpr std::uint32_t kLongest = 16;
  std::uint32_t largest;  // magnitude in the table
  std::uint8_t count[kLongest + 1];
  std::uint16_t list[2][kLongest + 1][kLongest];  // by sign and magnitude

  explicit MagnitudeBins(const ContextLayout& c, std::uint32_t unary) : largest(std::min(unary, kLongest)), count(), list() {
    for (std::uint32_t m = 1; m <= largest; ++m) {
      count[m] = static_cast<std::uint8_t>(m);
      for (std::uint32_t negative = 0; negative < 2; ++negative)
        for (std::uint32_t j = 0; j < m; ++j)
          list[negative][m][j] = static_cast<std::uint16_t>((c.gt + 2 * j + negative) << 1 | (j + 1 < m));
    }
  }
};

inline constexpr std::uint64_t kGroup = 16;
inline bool all_zero(const std::int32_t* values) {
  std::uint32_t any = 0;
  for (std::uint64_t i = 0; i < kGroup; ++i) any |= static_cast<std::uint32_t>(values[i]);
  return any == 0;
}

// Levels without bounds or further contexts: nearly every tensor. See walk_levels().
template <bool Trial, bool DQ, class Emit>
NNC_INLINE void plain_levels(const ContextLayout& c, const MagnitudeBins& table, std::uint32_t unary, const std::int32_t* values,
                             std::uint64_t count, std::uint32_t& state, std::int32_t& prev, Emit& emit) {
  constexpr std::uint32_t kRoom = 2 + MagnitudeBins::kLongest;
  std::uint16_t list[1024 + kRoom];
  std::size_t n = 0;
  std::uint32_t neighbour = neighbour_class(prev);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (i % kGroup == 0 && neighbour == 0) {
      std::uint64_t end = i;
      while (end + kGroup <= count && all_zero(values + end)) end += kGroup;
      if (end != i) {
        emit.bins(list, n);
        n = 0;
        // Even levels lead around a cycle of one, two or four states.
        std::uint32_t cycle[4];
        std::uint32_t length = 0;
        do {
          cycle[length++] = c.sig + 3 * state;
          if (DQ) state = kNextState[state][0];
        } while (c.sig + 3 * state != cycle[0]);
        emit.zeros(cycle, length, end - i);
        if (DQ) state = skip_state(state, end - i);
        i = end - 1;
        continue;
      }
    }
    const std::int32_t multiple = values[i];
    const std::int32_t level = DQ ? level_of(multiple, state) : multiple;
    const std::int32_t coded = Trial ? multiple : level;
    const std::uint32_t negative = coded < 0;
    const std::uint32_t magnitude = (static_cast<std::uint32_t>(coded) ^ (0u - negative)) + negative;
    const std::uint32_t sig = c.sig + 3 * state + neighbour;
    if (DQ) state = kNextState[state][level & 1];
    if (__builtin_expect(magnitude > table.largest, 0)) {
      emit.bins(list, n);
      n = 0;
      emit.bin(sig, true);
      emit.bin(c.sign + neighbour, negative);
      emit_magnitude(emit, c, nullptr, magnitude, negative, unary, ~std::uint64_t{0});
      neighbour = 2 - negative;
      continue;
    }
    const std::uint32_t some = magnitude != 0;
    list[n] = static_cast<std::uint16_t>(sig << 1 | some);
    list[n + 1] = static_cast<std::uint16_t>((c.sign + neighbour) << 1 | negative);
    std::memcpy(list + n + 2, table.list[negative][magnitude], sizeof table.list[0][0]);
    n += 1 + some + table.count[magnitude];
    neighbour = some << (1 - negative);
    if (__builtin_expect(n > 1024, 0)) {
      emit.bins(list, n);
      n = 0;
    }
  }
  emit.bins(list, n);
  prev = neighbour == 0 ? 0 : neighbour == 1 ? -1 : 1;
}

// Emit also needs bins(list, count), a list of (model << 1 | bit); zeros(models, n, count), `count` zeros that go around
// `n` models; and block_row(state), called before every block row but the first.
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
  const bool plain = !size && !contexts;
  const MagnitudeBins table(c, plain ? t.unary_length : 0);
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
        if (plain) {
          plain_levels<Trial, DQ>(c, table, t.unary_length, values + base, width, state, prev, emit);
          return true;
        }
        for (std::uint64_t i = 0; i < width; ++i) {
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
