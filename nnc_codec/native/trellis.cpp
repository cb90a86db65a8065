// Viterbi search over the 8 states of dependent quantization, distortion only.
// Ties keep the lower predecessor and prefer a non-zero multiple, as the reference software does.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "cpu.h"
#include "quantizer.h"
#include "trellis.h"

#ifdef NNC_AVX2
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in the header: operands that are left undefined on purpose
#endif
#endif

namespace nnc {

namespace {

// The odd branch comes first in the order of predecessors.
constexpr bool kOddFirst[8] = {false, false, true, true, true, true, false, false};

void forward_portable(const float* w, std::size_t n, double scale, double* cost, Decision* decisions) {
  for (std::size_t i = 0; i < n; ++i) {
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::int32_t lo = lowest_candidate(o);
    double d[4];
    for (int s = 0; s < 4; ++s) {
      const double e = o - in_slot(lo, s);
      d[s] = e * e;
    }
    const double zero = o * o;
    double next[8];
    unsigned decision = 0;
    for (int s = 0; s < 8; ++s) {
      const double slot = cost[kEvenFrom[s]] + d[kEvenSlot[s]];
      const double none = cost[kEvenFrom[s]] + zero;
      const bool is_zero = none < slot;
      const double even = is_zero ? none : slot;
      const double odd = cost[kOddFrom[s]] + d[kOddSlot[s]];
      const bool over_odd = kOddFirst[s] ? odd <= even : odd < even;
      next[s] = over_odd ? odd : even;
      decision |= static_cast<unsigned>(over_odd) << s | static_cast<unsigned>(is_zero) << (8 + s);
    }
    std::copy(next, next + 8, cost);
    decisions[i] = static_cast<Decision>(decision);
  }
}

#ifdef NNC_AVX2
// Squared errors of the zero and of the candidate in every slot, for some weights at once.
struct Distances {
  static constexpr std::size_t kWeights = 64;
  alignas(64) double zero[kWeights];
  alignas(64) double slot[4][kWeights];

  NNC_TARGET_AVX512 void fill_wide(const float* w, std::size_t n, double scale) {
    for (std::size_t i = 0; i < n; i += 8) {
      const __m256 from = _mm256_maskz_loadu_ps(static_cast<__mmask8>(n - i < 8 ? (1u << (n - i)) - 1 : 0xff), w + i);
      const __m512d o = _mm512_abs_pd(_mm512_mul_pd(_mm512_set1_pd(scale), _mm512_cvtps_pd(from)));
      const __m256i one = _mm256_set1_epi32(1);
      const __m256i lo = _mm256_max_epi32(_mm256_sub_epi32(_mm512_cvttpd_epi32(o), one), one);
      _mm512_store_pd(zero + i, _mm512_mul_pd(o, o));
      for (int s = 0; s < 4; ++s) {
        const __m256i up = _mm256_and_si256(_mm256_sub_epi32(_mm256_set1_epi32(s), lo), _mm256_set1_epi32(3));
        const __m512d e = _mm512_sub_pd(o, _mm512_cvtepi32_pd(_mm256_add_epi32(lo, up)));
        _mm512_store_pd(slot[s] + i, _mm512_mul_pd(e, e));
      }
    }
  }
  NNC_TARGET_AVX2 void fill(const float* w, std::size_t n, double scale) {
    alignas(16) float tail[4];
    for (std::size_t i = 0; i < n; i += 4) {
      const float* from = w + i;
      if (n - i < 4) {
        std::fill(std::copy(from, w + n, tail), tail + 4, 0.0f);
        from = tail;
      }
      const __m256d scaled = _mm256_mul_pd(_mm256_set1_pd(scale), _mm256_cvtps_pd(_mm_loadu_ps(from)));
      const __m256d o = _mm256_andnot_pd(_mm256_set1_pd(-0.0), scaled);
      // lowest_candidate() of four.
      const __m128i one = _mm_set1_epi32(1);
      const __m128i lo = _mm_max_epi32(_mm_sub_epi32(_mm256_cvttpd_epi32(o), one), one);
      _mm256_store_pd(zero + i, _mm256_mul_pd(o, o));
      for (int s = 0; s < 4; ++s) {
        const __m128i up = _mm_and_si128(_mm_sub_epi32(_mm_set1_epi32(s), lo), _mm_set1_epi32(3));
        const __m256d e = _mm256_sub_pd(o, _mm256_cvtepi32_pd(_mm_add_epi32(lo, up)));
        _mm256_store_pd(slot[s] + i, _mm256_mul_pd(e, e));
      }
    }
  }
};

// Two registers hold the costs: x = (0 2 | 7 5), y = (4 6 | 3 1). The even branches into (0 1 | 4 5) start in x and the odd
// ones in y; into (2 3 | 6 7) it is the other way round.
NNC_TARGET_AVX2 void forward_avx2(const float* w, std::size_t n, double scale, double* cost,
                                                  Decision* decisions) {
  __m256d x = _mm256_set_pd(cost[5], cost[7], cost[2], cost[0]);
  __m256d y = _mm256_set_pd(cost[1], cost[3], cost[6], cost[4]);
  Distances ahead;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t at = i % Distances::kWeights;
    if (at == 0) ahead.fill(w + i, std::min(Distances::kWeights, n - i), scale);
    const __m256d zero = _mm256_broadcast_sd(ahead.zero + at);
    const __m256d even_slot = _mm256_blend_pd(_mm256_broadcast_sd(ahead.slot[0] + at), _mm256_broadcast_sd(ahead.slot[3] + at), 0xC);
    const __m256d odd_slot = _mm256_blend_pd(_mm256_broadcast_sd(ahead.slot[2] + at), _mm256_broadcast_sd(ahead.slot[1] + at), 0xC);
    // Rounding is monotone, so the smaller of two sums is the sum with the smaller term; that keeps one minimum off the
    // chain from weight to weight.
    const __m256d even = _mm256_min_pd(zero, even_slot);
    const __m256d a_even = _mm256_add_pd(x, even), b_even = _mm256_add_pd(y, even);
    const __m256d a_odd = _mm256_add_pd(y, odd_slot), b_odd = _mm256_add_pd(x, odd_slot);
    const __m256d a_zero = _mm256_cmp_pd(_mm256_add_pd(x, zero), _mm256_add_pd(x, even_slot), _CMP_LT_OQ);
    const __m256d b_zero = _mm256_cmp_pd(_mm256_add_pd(y, zero), _mm256_add_pd(y, even_slot), _CMP_LT_OQ);
    const __m256d a_take = _mm256_blend_pd(_mm256_cmp_pd(a_odd, a_even, _CMP_LT_OQ),
                                           _mm256_cmp_pd(a_odd, a_even, _CMP_LE_OQ), 0xC);
    const __m256d b_take = _mm256_blend_pd(_mm256_cmp_pd(b_odd, b_even, _CMP_LE_OQ),
                                           _mm256_cmp_pd(b_odd, b_even, _CMP_LT_OQ), 0xC);
    const __m256d a = _mm256_min_pd(a_odd, a_even);  // (0 1 | 4 5)
    const __m256d b = _mm256_min_pd(b_odd, b_even);  // (2 3 | 6 7)
    // The halves of the masks, side by side, are in the order of the states.
    const __m256 odd_mask = _mm256_shuffle_ps(_mm256_castpd_ps(a_take), _mm256_castpd_ps(b_take), 0x88);
    const __m256 zero_mask = _mm256_shuffle_ps(_mm256_castpd_ps(a_zero), _mm256_castpd_ps(b_zero), 0x88);
    decisions[i] = static_cast<Decision>(_mm256_movemask_ps(odd_mask) | _mm256_movemask_ps(zero_mask) << 8);

    const __m256d u = _mm256_unpacklo_pd(a, b);  // (0 2 | 4 6)
    const __m256d v = _mm256_unpackhi_pd(b, a);  // (3 1 | 7 5)
    x = _mm256_blend_pd(u, v, 0xC);
    y = _mm256_permute2f128_pd(u, v, 0x21);
  }
  alignas(32) double lanes[4];
  _mm256_store_pd(lanes, x);
  cost[0] = lanes[0], cost[2] = lanes[1], cost[7] = lanes[2], cost[5] = lanes[3];
  _mm256_store_pd(lanes, y);
  cost[4] = lanes[0], cost[6] = lanes[1], cost[3] = lanes[2], cost[1] = lanes[3];
}

// One register holds the costs of all states.
NNC_TARGET_AVX512 void forward_avx512(const float* w, std::size_t n, double scale, double* cost, Decision* decisions) {
  const __m512i even_from = _mm512_setr_epi64(0, 2, 4, 6, 7, 5, 3, 1);
  const __m512i odd_from = _mm512_setr_epi64(4, 6, 0, 2, 3, 1, 7, 5);
  constexpr __mmask8 kUpper = 0xF0;
  constexpr __mmask8 kFirst = 0x3C;  // kOddFirst
  __m512d x = _mm512_loadu_pd(cost);
  Distances ahead;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t at = i % Distances::kWeights;
    if (at == 0) ahead.fill_wide(w + i, std::min(Distances::kWeights, n - i), scale);
    const __m512d zero = _mm512_set1_pd(ahead.zero[at]);
    const __m512d even_slot = _mm512_mask_blend_pd(kUpper, _mm512_set1_pd(ahead.slot[0][at]), _mm512_set1_pd(ahead.slot[3][at]));
    const __m512d odd_slot = _mm512_mask_blend_pd(kUpper, _mm512_set1_pd(ahead.slot[2][at]), _mm512_set1_pd(ahead.slot[1][at]));
    const __m512d before = _mm512_permutexvar_pd(even_from, x);
    const __m512d even = _mm512_add_pd(before, _mm512_min_pd(zero, even_slot));
    const __m512d odd = _mm512_add_pd(_mm512_permutexvar_pd(odd_from, x), odd_slot);
    const __mmask8 is_zero = _mm512_cmp_pd_mask(_mm512_add_pd(before, zero), _mm512_add_pd(before, even_slot), _CMP_LT_OQ);
    const __mmask8 take_odd = _kor_mask8(_mm512_cmp_pd_mask(odd, even, _CMP_LT_OQ),
                                         _mm512_mask_cmp_pd_mask(kFirst, odd, even, _CMP_LE_OQ));
    decisions[i] = _mm512_kunpackb(is_zero, take_odd);
    x = _mm512_min_pd(odd, even);
  }
  _mm512_storeu_pd(cost, x);
}
#endif

using Forward = void (*)(const float*, std::size_t, double, double*, Decision*);

Forward forward_kernel() {
#ifdef NNC_AVX2
  if (has_avx512()) return forward_avx512;
  if (has_avx2()) return forward_avx2;
#endif
  return forward_portable;
}

// After four zero weights that took the zero branch into every state, the costs are where they were four weights before,
// and so it goes on until the zeros end.
constexpr Decision kAllZero = 0xFF00;
constexpr std::size_t kStretch = 64;

bool all_zero(const float* w) {
  return std::all_of(w, w + kStretch, [](float x) { return x == 0.0f; });
}
// Decisions on kStretch weights that are zero.
void forward_zeros(Forward forward, const float* w, double scale, double* cost, Decision* decisions) {
  constexpr std::size_t kPart = 16;
  for (std::size_t i = 0; i < kStretch; i += kPart) {
    forward(w + i, kPart, scale, cost, decisions + i);
    if (!std::all_of(decisions + i + kPart - 4, decisions + i + kPart, [](Decision d) { return d == kAllZero; })) continue;
    std::fill(decisions + i + kPart, decisions + kStretch, kAllZero);
    return;
  }
}

// Any weights.
void forward_any(Forward forward, const float* w, std::size_t n, double scale, double* cost, Decision* decisions) {
  for (std::size_t i = 0; i < n;) {
    std::size_t end = i;
    while (end + kStretch <= n && !all_zero(w + end)) end += kStretch;
    const bool stretch = end + kStretch <= n;
    if (!stretch) end = n;
    forward(w + i, end - i, scale, cost, decisions + i);
    if (stretch) forward_zeros(forward, w + end, scale, cost, decisions + end);
    i = stretch ? end + kStretch : n;
  }
}

void search(const float* weights, const TensorCoding& coding, double scale, std::int32_t* out) {
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  const Forward forward = forward_kernel();
  std::vector<Decision> decisions(count);
  std::vector<std::uint8_t> choice(count);
  double cost[8];
  std::fill(cost, cost + 8, 0.5 * DBL_MAX);
  cost[0] = 0;
  Decision* next = decisions.data();
  in_coding_order(weights, coding, [&](const float* w, std::size_t n) {
    forward_any(forward, w, n, scale, cost, next);
    next += n;
  });
  best_trace(count, cost, decisions.data(), choice.data());
  in_raster_order(coding, [&](std::size_t at, std::size_t coded, std::size_t n) {
    best_multiples(weights + at, n, scale, choice.data() + coded, out + at);
  });
}

}  // namespace

Status quantize_trellis(const float* weights, const TensorCoding& coding, float step, std::int32_t* out) {
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  const double scale = 1.0 / static_cast<double>(step);
  if (!trellis_fits(weights, count, step)) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  search(weights, coding, scale, out);
  return {};
}

}  // namespace nnc
