// Quantization that weighs bits against error: cost = ((w - q * step) / step)^2 + lambda * bits.
//
// The rates are those of the coder's own models, moved along the best path so far and tabulated again for every block of
// weights. Every survivor carries whether its last level was zero; the sign of a level is that of its weight, so that is
// all the neighbour context needs. Sums are float in a fixed order, so that every machine decides alike.
#include <algorithm>
#include <cmath>
#include <vector>

#include "binarization.h"
#include "cpu.h"
#include "quantizer.h"
#include "rate_model.h"
#include "trellis.h"

#ifdef NNC_AVX2
#include <immintrin.h>
#endif

namespace nnc {

namespace {

constexpr std::size_t kBlock = 64;               // weights between two looks at the rates
// The models follow every block at first and then one in four, which serves as well at a fraction of the time.
constexpr std::size_t kFollowed = 32;
bool follows(std::size_t block) { return block < kFollowed || block % 4 == 0; }

// Costs of the survivors, whether their last level was not zero, and the neighbour class it has then.
struct Survivors {
  alignas(32) float cost[8];
  alignas(32) std::uint32_t some[8];  // all ones or zero
  std::uint32_t neighbour;
};

void forward_portable(const float* w, std::size_t n, double scale, const RateTables& rates, Survivors& at,
                      Decision* decisions) {
  for (std::size_t i = 0; i < n; ++i) {
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::uint32_t negative = w[i] < 0;
    const std::int32_t lo = lowest_candidate(o);
    float slot[4];
    for (int s = 0; s < 4; ++s) {
      const std::int32_t m = in_slot(lo, s);
      const float e = static_cast<float>(o - m);
      slot[s] = e * e + rates.of(negative, (static_cast<std::uint32_t>(m) + 1) >> 1);
    }
    const float whole = static_cast<float>(o);
    const float distance = whole * whole;
    float even[8], odd[8];
    bool zero[8];
    for (int s = 0; s < 8; ++s) {
      const std::uint32_t nb = at.some[s] ? at.neighbour : 0;
      const float none = rates.zero[nb][s] + distance;
      const float sign = rates.some[negative][nb][s];
      const float level = sign + slot[s & 1 ? 3 : 0];
      zero[s] = none < level;
      even[s] = at.cost[s] + (zero[s] ? none : level);
      odd[s] = at.cost[s] + (sign + slot[s & 1 ? 1 : 2]);
    }
    unsigned decision = 0;
    for (int s = 0; s < 8; ++s) {
      const float over_even = even[kEvenFrom[s]], over_odd = odd[kOddFrom[s]];
      const bool take_odd = over_odd < over_even;
      at.cost[s] = take_odd ? over_odd : over_even;
      at.some[s] = take_odd || !zero[kEvenFrom[s]] ? ~0u : 0u;
      decision |= static_cast<unsigned>(take_odd) << s | static_cast<unsigned>(zero[kEvenFrom[s]]) << (8 + s);
    }
    decisions[i] = static_cast<Decision>(decision);
    at.neighbour = 2 - negative;
  }
}

#ifdef NNC_AVX2
// One lane per state.
NNC_TARGET_AVX2 void forward_avx2(const float* w, std::size_t n, double scale, const RateTables& rates, Survivors& at,
                                  Decision* decisions) {
  __m256 cost = _mm256_load_ps(at.cost);
  __m256 some = _mm256_castsi256_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at.some)));
  std::uint32_t neighbour = at.neighbour;
  const __m256i even_from = _mm256_setr_epi32(0, 2, 4, 6, 7, 5, 3, 1);
  const __m256i odd_from = _mm256_setr_epi32(4, 6, 0, 2, 3, 1, 7, 5);
  const __m128i slots = _mm_set_epi32(3, 2, 1, 0);
  for (std::size_t i = 0; i < n; ++i) {
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::uint32_t negative = w[i] < 0;
    const __m128i base = _mm_set1_epi32(lowest_candidate(o));
    const __m128i m = _mm_add_epi32(base, _mm_and_si128(_mm_sub_epi32(slots, base), _mm_set1_epi32(3)));
    const __m128 e = _mm256_cvtpd_ps(_mm256_sub_pd(_mm256_set1_pd(o), _mm256_cvtepi32_pd(m)));
    const __m128i level = _mm_srli_epi32(_mm_add_epi32(m, _mm_set1_epi32(1)), 1);
    __m128 rate;
    if (__builtin_expect(o < 2 * RateTables::kMagnitudes - 8, 1)) {
      rate = _mm_i32gather_ps(rates.magnitude[negative], level, 4);
    } else {
      alignas(16) std::uint32_t each[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(each), level);
      rate = _mm_setr_ps(rates.of(negative, each[0]), rates.of(negative, each[1]), rates.of(negative, each[2]),
                         rates.of(negative, each[3]));
    }
    const __m128 slot = _mm_add_ps(_mm_mul_ps(e, e), rate);
    const __m256 both = _mm256_set_m128(slot, slot);
    const float whole = static_cast<float>(o);
    const __m256 distance = _mm256_set1_ps(whole * whole);

    const __m256 zero_rate = _mm256_blendv_ps(_mm256_load_ps(rates.zero[0]), _mm256_load_ps(rates.zero[neighbour]), some);
    const __m256 sign =
        _mm256_blendv_ps(_mm256_load_ps(rates.some[negative][0]), _mm256_load_ps(rates.some[negative][neighbour]), some);
    const __m256 none = _mm256_add_ps(zero_rate, distance);
    const __m256 even_level = _mm256_add_ps(sign, _mm256_permute_ps(both, 0xCC));  // slots 0 3 0 3 ...
    const __m256 odd_level = _mm256_add_ps(sign, _mm256_permute_ps(both, 0x66));   // slots 2 1 2 1 ...
    const __m256 zero = _mm256_permutevar8x32_ps(_mm256_cmp_ps(none, even_level, _CMP_LT_OQ), even_from);
    const __m256 even = _mm256_permutevar8x32_ps(_mm256_add_ps(cost, _mm256_min_ps(none, even_level)), even_from);
    const __m256 odd = _mm256_permutevar8x32_ps(_mm256_add_ps(cost, odd_level), odd_from);
    const __m256 take_odd = _mm256_cmp_ps(odd, even, _CMP_LT_OQ);
    cost = _mm256_min_ps(odd, even);
    const __m256 ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    some = _mm256_or_ps(take_odd, _mm256_andnot_ps(zero, ones));
    decisions[i] = static_cast<Decision>(_mm256_movemask_ps(take_odd) | _mm256_movemask_ps(zero) << 8);
    neighbour = 2 - negative;
  }
  _mm256_store_ps(at.cost, cost);
  _mm256_store_si256(reinterpret_cast<__m256i*>(at.some), _mm256_castps_si256(some));
  at.neighbour = neighbour;
}
#endif

void forward(const float* w, std::size_t n, double scale, const RateTables& rates, Survivors& at, Decision* decisions) {
#ifdef NNC_AVX2
  if (has_avx2()) return forward_avx2(w, n, scale, rates, at, decisions);
#endif
  forward_portable(w, n, scale, rates, at, decisions);
}

void dependent(const float* w, std::size_t count, double scale, RateModel& model, std::int32_t* out) {
  std::vector<Decision> decisions(count);
  std::vector<std::uint8_t> choice(count);
  Survivors at{};
  std::fill(at.cost, at.cost + 8, 1e30f);
  at.cost[0] = 0;
  RateTables rates;
  bool stale = true;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const std::size_t n = std::min(kBlock, count - done);
    const bool follow = follows(done / kBlock);
    if (stale) model.tabulate(rates);
    stale = follow;
    forward(w + done, n, scale, rates, at, decisions.data() + done);
    const float* const least = std::min_element(at.cost, at.cost + 8);
    const float lowest = *least;
    for (float& c : at.cost) c -= lowest;
    if (!follow) continue;
    // The best path through the block moves the models; later weights may still change its last decisions.
    Trace trace{decisions.data() + done, choice.data() + done, static_cast<unsigned>(least - at.cost)};
    for (std::size_t i = n; i-- > 0;) trace.step(i);
    std::uint32_t state = trace.state;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t m = multiple_at(w[done + i], scale, choice[done + i]);
      const std::int32_t level = level_of(m, state);
      model.code(level, state);
      state = kNextState[state][level & 1];
    }
  }
  trace_back(count, at.cost, decisions.data(), choice.data());
  to_multiples(w, count, scale, choice.data(), out);
}

void uniform(const float* w, std::size_t count, double scale, RateModel& model, std::int32_t* out) {
  RateTables rates;
  bool follow = true;
  std::uint32_t neighbour = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % kBlock == 0) {
      if (follow) model.tabulate(rates);
      follow = follows(i / kBlock);
    }
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::uint32_t negative = w[i] < 0;
    const std::int32_t nearest = static_cast<std::int32_t>(o + 0.5);
    const float whole = static_cast<float>(o);
    float least = whole * whole + rates.zero[neighbour][0];
    std::int32_t best = 0;
    for (std::int32_t q = std::max(1, nearest - 1); q <= nearest; ++q) {
      const float e = static_cast<float>(o - q);
      const float cost = e * e + (rates.some[negative][neighbour][0] + rates.of(negative, static_cast<std::uint32_t>(q)));
      if (cost < least) {
        least = cost;
        best = q;
      }
    }
    out[i] = negative ? -best : best;
    if (follow) model.code(out[i], 0);
    neighbour = neighbour_class(out[i]);
  }
}

}  // namespace

Status quantize_rate(const float* weights, const TensorCoding& coding, float step, float lambda, std::int32_t* out) {
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  if (!(lambda >= 0.0f) || !std::isfinite(lambda)) return {Code::invalid_argument, "lambda", 0};
  if (!trellis_fits(weights, count, step)) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  const double scale = 1.0 / static_cast<double>(step);
  in_coding_order(weights, coding, out, [&](const float* w, std::int32_t* to) {
    RateModel model(coding.unary_length, likely_parameter_sets(w, count, coding, step), lambda);
    if (coding.dq)
      dependent(w, count, scale, model, to);
    else
      uniform(w, count, scale, model, to);
  });
  return {};
}

}  // namespace nnc
