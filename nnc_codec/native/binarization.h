// Levels to bins: one walk over a tensor in coding order, used by the encoder and by the parameter-set search.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "bin_lists.h"
#include "contexts.h"
#include "cpu.h"
#include "encoder_model.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace nnc {

// Level of a multiple in a state: the inverse of 2 * level - sgn(level) * (state & 1). A multiple that the state cannot
// reach is rounded towards minus infinity, as the reference software does.
inline std::int32_t level_of(std::int32_t multiple, std::uint32_t state) {
  const std::int64_t sign = multiple >> 31, odd = state & 1u;  // no branch: signs cannot be guessed
  return static_cast<std::int32_t>((multiple + ((odd ^ sign) - sign)) >> 1);
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

// Which of up to 64 integers are not zero.
inline std::uint64_t nonzero(const std::int32_t* values, unsigned count) {
  std::uint64_t mask = 0;
  unsigned i = 0;
#ifdef __SSE2__
  const auto four = [values](unsigned at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + at)); };
  for (; i + 16 <= count; i += 16) {
    const __m128i packed = _mm_packs_epi16(_mm_packs_epi32(four(i), four(i + 4)), _mm_packs_epi32(four(i + 8), four(i + 12)));
    const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(packed, _mm_setzero_si128()));
    mask |= static_cast<std::uint64_t>(~zeros & 0xffff) << i;
  }
#endif
  for (; i < count; ++i) mask |= std::uint64_t{values[i] != 0} << i;
  return mask;
}

// Levels without bounds or further contexts: nearly every tensor. See walk_levels().
template <bool Trial, bool DQ, class Emit>
class PlainLevels {
 public:
  PlainLevels(const ContextLayout& layout, std::uint32_t unary, Emit& emit)
      : c_(layout), unary_(unary), table_(layout, unary), remainders_(layout), emit_(emit) {
    first_far_ = unary > MagnitudeBins::kLongest ? table_.largest + 1 : unary + RemainderBins::kTop + 2;
  }

  std::uint32_t state() const { return at_.state; }
  void forget() { at_.neighbour = 0; }
  void skip(std::uint64_t count) { at_.state = skip_state(at_.state, count); }
  void take(const std::int32_t* values, std::uint64_t count) {
    for (std::uint64_t done = 0; done < count; done += kBlock) {
      const unsigned n = static_cast<unsigned>(std::min<std::uint64_t>(kBlock, count - done));
      const std::uint64_t some = nonzero(values + done, n);
      if (static_cast<unsigned>(__builtin_popcountll(some)) * kSparse <= n)
        sparse(values + done, n, some);
      else
        dense(values + done, n);
    }
    if (run_) zeros();
    hand_on();
  }

 private:
  static constexpr std::uint64_t kBlock = 64;
  static constexpr unsigned kSparse = 4;    // weights for each that is not zero, from where on runs of zeros are worth it
  static constexpr std::uint64_t kRun = 4;  // zeros that are a run
  static constexpr std::uint32_t kFull = 1024;

  struct Place {
    std::uint32_t state = 0;
    std::uint32_t neighbour = 0;
    std::size_t n = 0;  // bins in the list
  };

  void hand_on() {
    if (at_.n) emit_.bins(list_, at_.n);
    at_.n = 0;
  }
  // Zeros wait until it is known how many follow each other.
  void sparse(const std::int32_t* values, unsigned n, std::uint64_t some) {
    for (unsigned i = 0; i < n; ++i, some &= some - 1) {
      const unsigned next = some ? static_cast<unsigned>(__builtin_ctzll(some)) : n;
      if (next != i && at_.neighbour) {
        zero(at_);
        ++i;
      }
      run_ += next - i;
      if (next == n) return;
      if (run_) zeros();
      level(values[next], at_);
      i = next;
    }
  }
  void dense(const std::int32_t* values, unsigned n) {
    if (run_) zeros();
    if constexpr (!Trial) {
      if (emit_.template knows<DQ>(values, n)) {
        hand_on();
        return emit_.template levels<DQ>(values, n, at_.state, at_.neighbour);
      }
    }
    Place at = at_;
    for (unsigned i = 0; i < n; ++i) level(values[i], at);
    at_ = at;
  }
  void zeros() {
    const std::uint64_t count = run_;
    run_ = 0;
    if (count < kRun) {
      for (std::uint64_t i = 0; i < count; ++i) zero(at_);
      if (at_.n > kFull) hand_on();
      return;
    }
    hand_on();
    // Even levels lead around a cycle of one, two or four states.
    std::uint32_t cycle[4];
    std::uint32_t length = 0;
    std::uint32_t state = at_.state;
    do {
      cycle[length++] = c_.sig + 3 * state;
      if (DQ) state = kNextState[state][0];
    } while (state != at_.state);
    emit_.zeros(cycle, length, count);
    if (DQ) at_.state = skip_state(state, count);
  }
  NNC_INLINE void zero(Place& at) {
    list_[at.n++] = bin_of(c_.sig + 3 * at.state + at.neighbour, 0);
    at.neighbour = 0;
    if (DQ) at.state = kNextState[at.state][0];
  }
  NNC_INLINE void level(std::int32_t multiple, Place& at) {
    const std::int32_t level = DQ ? level_of(multiple, at.state) : multiple;
    const std::int32_t coded = Trial ? multiple : level;
    const std::uint32_t negative = coded < 0;
    const std::uint32_t magnitude = (static_cast<std::uint32_t>(coded) ^ (0u - negative)) + negative;
    const std::uint32_t sig = c_.sig + 3 * at.state + at.neighbour;
    const std::uint32_t sign = c_.sign + at.neighbour;
    if (DQ) at.state = kNextState[at.state][level & 1];
    const std::uint32_t some = magnitude != 0;
    at.neighbour = some << (1 - negative);
    std::uint16_t* const list = list_ + at.n;
    list[0] = bin_of(sig, some);
    list[1] = bin_of(sign, negative);
    const std::uint32_t listed = std::min(magnitude, table_.largest + 1);
    std::memcpy(list + 2, table_.list[negative][listed], sizeof table_.list[0][0]);
    at.n += 1 + some + table_.count[listed];
    if (magnitude > table_.largest) {
      if (magnitude >= first_far_) return far(magnitude, negative, at);
      const unsigned suffix = remainders_.write(magnitude - unary_ - 1, list_ + at.n);
      at.n += suffix + 1 + (Trial ? 0 : suffix);  // the search knows what equiprobable bins cost
    }
    if (__builtin_expect(at.n > kFull, 0)) {
      emit_.bins(list_, at.n);
      at.n = 0;
    }
  }
  // A level beyond the tables, whose first flags are in the list.
  void far(std::uint32_t magnitude, bool negative, Place& at) {
    emit_.bins(list_, at.n - table_.largest);
    at.n = 0;
    emit_magnitude(emit_, c_, nullptr, magnitude, negative, unary_, ~std::uint64_t{0});
  }

  ContextLayout c_;
  std::uint32_t unary_;
  MagnitudeBins table_;
  RemainderBins remainders_;
  std::uint32_t first_far_;  // magnitude beyond both
  Emit& emit_;
  Place at_;
  std::uint64_t run_ = 0;  // zeros after a zero that are not handed on yet
  std::uint16_t list_[kFull + kRun + 2 + MagnitudeBins::kLongest + RemainderBins::kBins];
};

template <bool Trial, bool DQ, class Emit>
void walk_plain_levels(const TensorCoding& t, const ContextLayout& c, const std::int32_t* values, const std::uint8_t* skip,
                       Emit& emit) {
  PlainLevels<Trial, DQ, Emit> levels(c, t.unary_length, emit);
  if (!t.effective_scan() && !skip) return levels.take(values, t.rows * t.cols);
  for_each_segment(t.rows, t.cols, t.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool starts_block_row) {
                     if (starts_block_row) {
                       emit.block_row(levels.state());
                       if (!Trial) levels.forget();
                     }
                     if (!skip || !skip[y])
                       levels.take(values + y * t.cols + x, width);
                     else if (DQ)
                       levels.skip(t.cols);
                     return true;
                   });
}

template <bool Trial, bool DQ, class Emit>
void walk_any_levels(const TensorCoding& t, const ContextLayout& c, const std::int32_t* values, const std::uint8_t* skip,
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

// Emit also needs bins(list, count), a list of bin_of(); zeros(models, n, count), `count` zeros that go around
// `n` models; and block_row(state), called before every block row but the first. If it is not for a trial: levels(values,
// count, state, neighbour) takes up to 64 levels as they are, after knows(values, count) said so.
//
// Trial: the search of the reference software. It binarizes the integers as given (multiples, not levels), ignores a
// codebook's bounds, and does not forget the neighbour at block rows. Identical bytes need all three.
template <bool Trial, bool DQ, class Emit>
void walk_levels(const TensorCoding& t, const ContextLayout& c, const std::int32_t* values, const std::uint8_t* skip,
                 bool hist_on, Emit& emit) {
  if ((!Trial && t.bound_size()) || t.temporal() || hist_on)
    walk_any_levels<Trial, DQ>(t, c, values, skip, hist_on, emit);
  else
    walk_plain_levels<Trial, DQ>(t, c, values, skip, emit);
}

}  // namespace nnc
