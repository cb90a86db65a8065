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
// Two registers hold the costs: x = (0 2 | 7 5), y = (4 6 | 3 1). The even branches into (0 1 | 4 5) start in x and the odd
// ones in y; into (2 3 | 6 7) it is the other way round.
NNC_TARGET_AVX2 void forward_avx2(const float* w, std::size_t n, double scale, double* cost,
                                                  Decision* decisions) {
  __m256d x = _mm256_set_pd(cost[5], cost[7], cost[2], cost[0]);
  __m256d y = _mm256_set_pd(cost[1], cost[3], cost[6], cost[4]);
  const __m128i slots = _mm_set_epi32(3, 2, 1, 0);
  const __m128i three = _mm_set1_epi32(3);
  // Spreads movemask bits to the state order of Decision: (0 1 | 4 5) and (2 3 | 6 7).
  static constexpr std::uint8_t kSpread[16] = {0x00, 0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13,
                                               0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x33};
  for (std::size_t i = 0; i < n; ++i) {
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::int32_t lo = lowest_candidate(o);
    const __m128i base = _mm_set1_epi32(lo);
    const __m128i m = _mm_add_epi32(base, _mm_and_si128(_mm_sub_epi32(slots, base), three));
    const __m256d ov = _mm256_set1_pd(o);
    const __m256d e = _mm256_sub_pd(ov, _mm256_cvtepi32_pd(m));
    const __m256d d = _mm256_mul_pd(e, e);
    const __m256d zero = _mm256_mul_pd(ov, ov);
    const __m256d even_slot = _mm256_permute4x64_pd(d, 0xF0);  // (0 0 | 3 3)
    const __m256d odd_slot = _mm256_permute4x64_pd(d, 0x5A);   // (2 2 | 1 1)

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
    const unsigned odd_bits = kSpread[_mm256_movemask_pd(a_take)] | kSpread[_mm256_movemask_pd(b_take)] << 2;
    const unsigned zero_bits = kSpread[_mm256_movemask_pd(a_zero)] | kSpread[_mm256_movemask_pd(b_zero)] << 2;
    decisions[i] = static_cast<Decision>(odd_bits | zero_bits << 8);

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
#endif

void finish_portable(const float* w, std::size_t n, double scale, const double* cost, const Decision* decisions,
                     std::uint8_t* choice, std::int32_t* out) {
  trace_back(n, cost, decisions, choice);
  to_multiples(w, n, scale, choice, out);
}
#ifdef NNC_AVX2
NNC_TARGET_AVX2 void finish_avx2(const float* w, std::size_t n, double scale, const double* cost, const Decision* decisions,
                                 std::uint8_t* choice, std::int32_t* out) {
  trace_back(n, cost, decisions, choice);
  to_multiples(w, n, scale, choice, out);
}
#endif

void search(const float* w, std::size_t n, double scale, std::int32_t* out) {
  std::vector<Decision> decisions(n);
  std::vector<std::uint8_t> choice(n);
  double cost[8];
  std::fill(cost, cost + 8, 0.5 * DBL_MAX);
  cost[0] = 0;
#ifdef NNC_AVX2
  if (has_avx2()) {
    forward_avx2(w, n, scale, cost, decisions.data());
    return finish_avx2(w, n, scale, cost, decisions.data(), choice.data(), out);
  }
#endif
  forward_portable(w, n, scale, cost, decisions.data());
  finish_portable(w, n, scale, cost, decisions.data(), choice.data(), out);
}

}  // namespace

Status quantize_trellis(const float* weights, const TensorCoding& coding, float step, std::int32_t* out) {
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  const double scale = 1.0 / static_cast<double>(step);
  if (!trellis_fits(weights, count, step)) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  in_coding_order(weights, coding, out, [&](const float* w, std::int32_t* to) { search(w, count, scale, to); });
  return {};
}

}  // namespace nnc
