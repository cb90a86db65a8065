// Bins of the parameter-set search, straight from 64 integers at a time.
//
// The search wants the bins of every model in order, but no order among models. So the integers become one mask each for
// "not zero", "negative" and "at least m", and the string of a model is what its own mask picks out of one of these.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "contexts.h"
#include "cpu.h"

#ifdef NNC_AVX2
#include <immintrin.h>

namespace nnc {

// 64 integers, one bit or byte each.
struct LevelPlanes {
  std::uint64_t some;      // not zero
  std::uint64_t negative;
  std::uint64_t low[2];    // the two lowest bits
  __m256i magnitude[2];    // at most 128

  NNC_TARGET_AVX2 NNC_INLINE void load(const std::int32_t* values) {
    const __m256i three = _mm256_set1_epi32(3);
    __m256i levels[2], lows[2];
    for (int half = 0; half < 2; ++half) {
      __m256i v[4], l[4];
      for (int i = 0; i < 4; ++i) {
        v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + 32 * half + 8 * i));
        l[i] = _mm256_and_si256(v[i], three);
      }
      levels[half] = bytes(v);
      lows[half] = bytes(l);
      magnitude[half] = _mm256_abs_epi8(levels[half]);
    }
    const __m256i none = _mm256_setzero_si256();
    some = ~mask(_mm256_cmpeq_epi8(levels[0], none), _mm256_cmpeq_epi8(levels[1], none));
    negative = mask(levels[0], levels[1]);
    low[0] = mask(_mm256_slli_epi16(lows[0], 7), _mm256_slli_epi16(lows[1], 7));
    low[1] = mask(_mm256_slli_epi16(lows[0], 6), _mm256_slli_epi16(lows[1], 6));
  }
  // Magnitudes of `least` <= 127 or more.
  NNC_TARGET_AVX2 NNC_INLINE std::uint64_t at_least(unsigned least) const {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(least));
    return mask(_mm256_cmpeq_epi8(_mm256_min_epu8(magnitude[0], m), m), _mm256_cmpeq_epi8(_mm256_min_epu8(magnitude[1], m), m));
  }

 private:
  // 32 integers as signed bytes, saturated.
  NNC_TARGET_AVX2 static NNC_INLINE __m256i bytes(const __m256i* v) {
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  NNC_TARGET_AVX2 static NNC_INLINE std::uint64_t mask(__m256i low_half, __m256i high_half) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(low_half)) |
           std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(high_half))} << 32;
  }
};

// Four steps of the quantization state at once. Whether a level is odd depends on the integer and the state's lowest bit,
// so that two parities per integer say it all.
struct StateSteps {
  // By state and the parities of four levels in even (low half) and odd states: the next state, and from bit 4 on the
  // states' bits 0 before the four levels, then bits 1, then bits 2.
  std::uint16_t entry[8][256];
};
constexpr StateSteps make_state_steps() {
  StateSteps t{};
  for (unsigned from = 0; from < 8; ++from)
    for (unsigned parities = 0; parities < 256; ++parities) {
      unsigned state = from, planes = 0;
      for (unsigned i = 0; i < 4; ++i) {
        for (unsigned b = 0; b < 3; ++b) planes |= (state >> b & 1u) << (4 * b + i);
        state = kNextState[state][parities >> (4 * (state & 1u) + i) & 1u];
      }
      t.entry[from][parities] = static_cast<std::uint16_t>(planes << 4 | state);
    }
  return t;
}
inline constexpr StateSteps kStateSteps = make_state_steps();

// Emit needs string(model, bits, count): `count` <= 64 bins, the first one in the lowest bit. For levels without bounds or
// further contexts whose unary length is at most kLongestPlanes.
inline constexpr unsigned kTopPlane = 127;  // largest magnitude that bytes tell from smaller ones
inline constexpr std::uint32_t kLongestPlanes = kTopPlane - 1;

template <bool DQ, class Emit>
class PlaneWalk {
 public:
  PlaneWalk(const ContextLayout& layout, std::uint32_t unary, Emit& emit) : c_(layout), unary_(unary), emit_(emit) {}

  std::uint32_t state() const { return state_; }
  void skip(std::uint64_t zeros) { state_ = skip_state(state_, zeros); }
  NNC_TARGET_AVX2 void take(const std::int32_t* values, std::size_t count) {
    std::size_t done = 0;
    for (; done + 64 <= count; done += 64) block(values + done, 64);
    if (done == count) return;
    std::int32_t rest[64] = {};
    std::copy(values + done, values + count, rest);
    block(rest, static_cast<unsigned>(count - done));
  }

 private:
  static NNC_INLINE unsigned ones(std::uint64_t mask) { return static_cast<unsigned>(__builtin_popcountll(mask)); }

  NNC_TARGET_AVX2 NNC_INLINE void pick(std::uint32_t model, std::uint64_t bits, std::uint64_t own) {
    if (own) emit_.string(model, _pext_u64(bits, own), ones(own));
  }
  NNC_TARGET_AVX2 NNC_INLINE void block(const std::int32_t* values, unsigned n) {
    LevelPlanes p;
    p.load(values);
    const std::uint64_t valid = ~std::uint64_t{0} >> (64 - n);
    const std::uint64_t some_before = p.some << 1 | some_, negative_before = p.negative << 1 | negative_;
    some_ = p.some >> (n - 1) & 1u;
    negative_ = p.negative >> (n - 1) & 1u;
    // By the neighbour class of the level before.
    const std::uint64_t neighbours[3] = {~some_before & valid, negative_before & valid, some_before & ~negative_before & valid};
    if (DQ)
      significance_by_state(p, n, neighbours);
    else
      for (std::uint32_t nb = 0; nb < 3; ++nb) pick(c_.sig + nb, p.some, neighbours[nb]);
    if (!p.some) return;
    for (std::uint32_t nb = 0; nb < 3; ++nb) pick(c_.sign + nb, p.negative, neighbours[nb] & p.some);
    std::uint64_t reached = p.some;
    for (std::uint32_t j = 0; j < unary_; ++j) {
      const std::uint64_t more = p.at_least(j + 2);
      pick(c_.gt + 2 * j, more, reached & ~p.negative);
      pick(c_.gt + 2 * j + 1, more, reached & p.negative);
      reached = more;
      if (!reached) return;
    }
    std::uint64_t least = unary_ + 1;  // magnitude of those that have a flag left
    std::uint32_t k = 0;
    for (; least + (std::uint64_t{1} << k) <= kTopPlane; ++k) {
      least += std::uint64_t{1} << k;
      const std::uint64_t more = p.at_least(static_cast<unsigned>(least));
      pick(c_.esc + k, more, reached);
      reached = more;
      if (!reached) return;
    }
    for (; reached; reached &= reached - 1) remainder(magnitude_of(values[__builtin_ctzll(reached)]), k, least);
  }
  NNC_TARGET_AVX2 NNC_INLINE void significance_by_state(const LevelPlanes& p, unsigned n, const std::uint64_t* neighbours) {
    // An odd state moves the integer away from zero before it is halved.
    const std::uint64_t even = p.low[1], odd = p.low[1] ^ p.low[0] ^ p.negative;
    std::uint64_t planes[3] = {};
    std::uint32_t state = state_;
    for (unsigned i = 0; i < n; i += 4) {
      const std::uint32_t entry = kStateSteps.entry[state][(even >> i & 15u) | (odd >> i & 15u) << 4];
      for (unsigned b = 0; b < 3; ++b) planes[b] |= static_cast<std::uint64_t>(entry >> (4 + 4 * b) & 15u) << i;
      state = entry & 7u;
    }
    // The last four may be fewer.
    state_ = n == 64 ? state : state_after(even, odd, n);
    for (std::uint32_t s = 0; s < 8; ++s) {
      const std::uint64_t here = (s & 1 ? planes[0] : ~planes[0]) & (s & 2 ? planes[1] : ~planes[1]) & (s & 4 ? planes[2] : ~planes[2]);
      for (std::uint32_t nb = 0; nb < 3; ++nb) pick(c_.sig + 3 * s + nb, p.some, here & neighbours[nb]);
    }
  }
  std::uint32_t state_after(std::uint64_t even, std::uint64_t odd, unsigned n) const {
    std::uint32_t state = state_;
    for (unsigned i = 0; i < n; ++i) state = kNextState[state][(state & 1u ? odd : even) >> i & 1u];
    return state;
  }
  // Flags from the k-th on of a magnitude that is at least `reached`.
  void remainder(std::uint64_t magnitude, std::uint32_t k, std::uint64_t reached) {
    for (; k < 31; ++k) {
      const bool more = magnitude >= reached + (std::uint64_t{1} << k);
      emit_.string(c_.esc + k, more, 1);
      if (!more) return;
      reached += std::uint64_t{1} << k;
    }
  }

  ContextLayout c_;
  std::uint32_t unary_;
  Emit& emit_;
  std::uint32_t state_ = 0;
  std::uint64_t some_ = 0, negative_ = 0;  // of the level before
};

}  // namespace nnc
#endif
