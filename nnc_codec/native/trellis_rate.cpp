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
// The models follow every block at first and then one in four and one in eight, which serves nearly as well at a fraction
// of the time.
constexpr std::size_t kFollowed = 32;
constexpr std::size_t kOften = 1024;
bool follows(std::size_t block) { return block < kFollowed || block % (block < kOften ? 4 : 8) == 0; }

constexpr float kForbidden = 1e20f;  // error of a level where a zero is to be kept; the path over the zero is always open

// Costs of the survivors, whether their last level was not zero, and the neighbour class it has then.
struct Survivors {
  alignas(32) float cost[8];
  alignas(32) std::uint32_t some[8];  // all ones or zero
  std::uint32_t neighbour;
};

void forward_portable(const float* w, std::size_t n, double scale, bool keep_zeros, const RateTables& rates, Survivors& at,
                      Decision* decisions) {
  for (std::size_t i = 0; i < n; ++i) {
    const double o = std::fabs(scale * static_cast<double>(w[i]));
    const std::uint32_t negative = w[i] < 0;
    const std::int32_t lo = lowest_candidate(o);
    const float forbidden = keep_zeros && w[i] == 0.0f ? kForbidden : 0.0f;
    float slot[4];
    for (int s = 0; s < 4; ++s) {
      const std::int32_t m = in_slot(lo, s);
      const float e = static_cast<float>(o - m);
      slot[s] = forbidden + e * e + rates.of(negative, (static_cast<std::uint32_t>(m) + 1) >> 1);
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
// What the search needs of each weight of a block: error and rate of the candidate in every slot, error of the zero, sign.
struct Candidates {
  alignas(32) float slot[4][kBlock];
  alignas(32) float zero[kBlock];
  alignas(32) std::int32_t negative[kBlock];

  NNC_TARGET_AVX2 void fill(const float* w, std::size_t n, double scale, bool keep_zeros, const RateTables& rates) {
    constexpr std::int32_t kTop = RateTables::kMagnitudes - 1;
    const __m128i one = _mm_set1_epi32(1);
    const __m128 price = _mm_set1_ps(keep_zeros ? kForbidden : 0.0f);
    alignas(16) float tail[4];
    for (std::size_t i = 0; i < n; i += 4) {
      const float* from = w + i;
      if (n - i < 4) {
        std::fill(std::copy(from, w + n, tail), tail + 4, 0.0f);
        from = tail;
      }
      const __m128 weight = _mm_loadu_ps(from);
      const __m128i below = _mm_castps_si128(_mm_cmplt_ps(weight, _mm_setzero_ps()));
      const __m128 forbidden = _mm_and_ps(price, _mm_cmpeq_ps(weight, _mm_setzero_ps()));
      const __m256d scaled = _mm256_mul_pd(_mm256_set1_pd(scale), _mm256_cvtps_pd(weight));
      const __m256d o = _mm256_andnot_pd(_mm256_set1_pd(-0.0), scaled);
      const __m128 whole = _mm256_cvtpd_ps(o);
      _mm_store_ps(zero + i, _mm_mul_ps(whole, whole));
      _mm_store_si128(reinterpret_cast<__m128i*>(negative + i), _mm_srli_epi32(below, 31));
      // lowest_candidate() of four.
      const __m128i lo = _mm_max_epi32(_mm_sub_epi32(_mm256_cvttpd_epi32(o), one), one);
      const __m128i first = _mm_and_si128(below, _mm_set1_epi32(RateTables::kMagnitudes));
      for (int s = 0; s < 4; ++s) {
        const __m128i m = _mm_add_epi32(lo, _mm_and_si128(_mm_sub_epi32(_mm_set1_epi32(s), lo), _mm_set1_epi32(3)));
        const __m128 e = _mm256_cvtpd_ps(_mm256_sub_pd(o, _mm256_cvtepi32_pd(m)));
        const __m128i level = _mm_srli_epi32(_mm_add_epi32(m, one), 1);
        const __m128i in_table = _mm_min_epi32(level, _mm_set1_epi32(kTop));
        __m128 rate = _mm_i32gather_ps(rates.magnitude[0], _mm_add_epi32(first, in_table), 4);
        if (__builtin_expect(_mm_movemask_epi8(_mm_cmpgt_epi32(level, _mm_set1_epi32(kTop))), 0)) {
          alignas(16) std::uint32_t each[4];
          _mm_store_si128(reinterpret_cast<__m128i*>(each), level);
          rate = _mm_setr_ps(rates.of(from[0] < 0, each[0]), rates.of(from[1] < 0, each[1]), rates.of(from[2] < 0, each[2]),
                             rates.of(from[3] < 0, each[3]));
        }
        _mm_store_ps(slot[s] + i, _mm_add_ps(_mm_add_ps(forbidden, _mm_mul_ps(e, e)), rate));
      }
    }
  }
};

// One lane per state; at most kBlock weights.
NNC_TARGET_AVX2 void forward_avx2(const float* w, std::size_t n, double scale, bool keep_zeros, const RateTables& rates,
                                  Survivors& at, Decision* decisions) {
  __m256 cost = _mm256_load_ps(at.cost);
  __m256 some = _mm256_castsi256_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at.some)));
  std::uint32_t neighbour = at.neighbour;
  const __m256i even_from = _mm256_setr_epi32(0, 2, 4, 6, 7, 5, 3, 1);
  const __m256i odd_from = _mm256_setr_epi32(4, 6, 0, 2, 3, 1, 7, 5);
  const __m256 ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  constexpr int kOddStates = 0xAA;
  Candidates ahead;
  ahead.fill(w, n, scale, keep_zeros, rates);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t negative = static_cast<std::size_t>(ahead.negative[i]);
    const __m256 even_slot = _mm256_blend_ps(_mm256_broadcast_ss(ahead.slot[0] + i), _mm256_broadcast_ss(ahead.slot[3] + i), kOddStates);
    const __m256 odd_slot = _mm256_blend_ps(_mm256_broadcast_ss(ahead.slot[2] + i), _mm256_broadcast_ss(ahead.slot[1] + i), kOddStates);
    // Both cases of the neighbour are ready when it is known which one it is.
    const __m256 distance = _mm256_broadcast_ss(ahead.zero + i);
    const __m256 sign_a = _mm256_load_ps(rates.some[negative][0]), sign_b = _mm256_load_ps(rates.some[negative][neighbour]);
    const __m256 none_a = _mm256_add_ps(_mm256_load_ps(rates.zero[0]), distance);
    const __m256 none_b = _mm256_add_ps(_mm256_load_ps(rates.zero[neighbour]), distance);
    const __m256 level_a = _mm256_add_ps(sign_a, even_slot), level_b = _mm256_add_ps(sign_b, even_slot);
    const __m256 even_term = _mm256_blendv_ps(_mm256_min_ps(none_a, level_a), _mm256_min_ps(none_b, level_b), some);
    const __m256 odd_term = _mm256_blendv_ps(_mm256_add_ps(sign_a, odd_slot), _mm256_add_ps(sign_b, odd_slot), some);
    const __m256 is_zero = _mm256_blendv_ps(_mm256_cmp_ps(none_a, level_a, _CMP_LT_OQ),
                                            _mm256_cmp_ps(none_b, level_b, _CMP_LT_OQ), some);
    const __m256 zero = _mm256_permutevar8x32_ps(is_zero, even_from);
    const __m256 even = _mm256_permutevar8x32_ps(_mm256_add_ps(cost, even_term), even_from);
    const __m256 odd = _mm256_permutevar8x32_ps(_mm256_add_ps(cost, odd_term), odd_from);
    const __m256 take_odd = _mm256_cmp_ps(odd, even, _CMP_LT_OQ);
    cost = _mm256_min_ps(odd, even);
    some = _mm256_or_ps(take_odd, _mm256_andnot_ps(zero, ones));
    decisions[i] = static_cast<Decision>(_mm256_movemask_ps(take_odd) | _mm256_movemask_ps(zero) << 8);
    neighbour = 2 - static_cast<std::uint32_t>(negative);
  }
  _mm256_store_ps(at.cost, cost);
  _mm256_store_si256(reinterpret_cast<__m256i*>(at.some), _mm256_castps_si256(some));
  at.neighbour = neighbour;
}
#endif

void forward(const float* w, std::size_t n, double scale, bool keep_zeros, const RateTables& rates, Survivors& at,
             Decision* decisions) {
#ifdef NNC_AVX2
  if (has_avx2()) return forward_avx2(w, n, scale, keep_zeros, rates, at, decisions);
#endif
  forward_portable(w, n, scale, keep_zeros, rates, at, decisions);
}

// The search with dependent quantization, over weights in coding order.
class Dependent {
 public:
  Dependent(RateModel& model, std::size_t count, double scale, bool keep_zeros)
      : model_(model), scale_(scale), keep_zeros_(keep_zeros), decisions_(count), choice_(count) {
    std::fill(at_.cost, at_.cost + 8, 1e30f);
    at_.cost[0] = 0;
  }
  // The next weights, a multiple of kBlock unless they are the last.
  void take(const float* w, std::size_t count) {
    for (std::size_t done = 0; done < count; done += kBlock) block(w + done, std::min(kBlock, count - done));
  }
  // After the last weight: slots of the best path.
  const std::uint8_t* choice() {
    best_trace(choice_.size(), at_.cost, decisions_.data(), choice_.data());
    return choice_.data();
  }

 private:
  void block(const float* w, std::size_t n) {
    const bool follow = follows(taken_ / kBlock);
    if (stale_) model_.tabulate(rates_);
    stale_ = follow;
    const Survivors entered = at_;
    forward(w, n, scale_, keep_zeros_, rates_, at_, decisions_.data() + taken_);
    const float* const least = std::min_element(at_.cost, at_.cost + 8);
    const float lowest = *least;
    for (float& c : at_.cost) c -= lowest;
    if (follow) move_models(w, n, entered, static_cast<unsigned>(least - at_.cost));
    taken_ += n;
  }
  // The best path through the block moves the models; later weights may still change its last decisions.
  void move_models(const float* w, std::size_t n, const Survivors& entered, unsigned last) {
    Trace trace{decisions_.data() + taken_, choice_.data() + taken_, last};
    for (std::size_t i = n; i-- > 0;) trace.step(i);
    std::uint32_t state = trace.state;
    model_.enter(entered.some[state] ? entered.neighbour : 0);
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t level = level_of(multiple_at(w[i], scale_, choice_[taken_ + i]), state);
      model_.code(level, state);
      state = kNextState[state][level & 1];
    }
  }

  RateModel& model_;
  double scale_;
  bool keep_zeros_;
  std::vector<Decision> decisions_;
  std::vector<std::uint8_t> choice_;
  Survivors at_{};
  RateTables rates_;
  bool stale_ = true;
  std::size_t taken_ = 0;
};

// The search without it: a decision is final at once.
class Uniform {
 public:
  Uniform(RateModel& model, double scale) : model_(model), scale_(scale) {}
  // The next weights in coding order, any number.
  void take(const float* w, std::size_t count, std::int32_t* out) {
    for (std::size_t i = 0; i < count; ++i) {
      if (taken_++ % kBlock == 0) {
        if (follow_) model_.tabulate(rates_);
        follow_ = follows((taken_ - 1) / kBlock);
        model_.enter(neighbour_);
      }
      out[i] = decide(w[i]);
      if (follow_) model_.code(out[i], 0);
      neighbour_ = neighbour_class(out[i]);
    }
  }

 private:
  std::int32_t decide(float w) const {
    const double o = std::fabs(scale_ * static_cast<double>(w));
    const std::uint32_t negative = w < 0;
    const std::int32_t nearest = static_cast<std::int32_t>(o + 0.5);
    const float whole = static_cast<float>(o);
    float least = whole * whole + rates_.zero[neighbour_][0];
    std::int32_t best = 0;
    for (std::int32_t q = std::max(1, nearest - 1); q <= nearest; ++q) {
      const float e = static_cast<float>(o - q);
      const float cost = e * e + (rates_.some[negative][neighbour_][0] + rates_.of(negative, static_cast<std::uint32_t>(q)));
      if (cost < least) {
        least = cost;
        best = q;
      }
    }
    return negative ? -best : best;
  }

  RateModel& model_;
  double scale_;
  RateTables rates_;
  bool follow_ = true;
  std::uint32_t neighbour_ = 0;
  std::size_t taken_ = 0;
};

// Parameter sets for the start of the tensor, whose weights may have to be brought into coding order.
std::vector<std::uint8_t> first_parameter_sets(const float* weights, std::size_t count, const TensorCoding& coding, float step) {
  if (coding.effective_scan() == 0) return likely_parameter_sets(weights, count, coding, step);
  std::vector<float> first;
  first.reserve(kParameterSample + kBlock * 16);
  for_each_segment(coding.rows, coding.cols, coding.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool) {
                     const float* const from = weights + y * coding.cols + x;
                     first.insert(first.end(), from, from + width);
                     return first.size() < kParameterSample;
                   });
  return likely_parameter_sets(first.data(), first.size(), coding, step);
}

}  // namespace

Status quantize_rate(const float* weights, const TensorCoding& coding, float step, float lambda, std::int32_t* out,
                     bool keep_zeros) {
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  if (!(lambda >= 0.0f) || !std::isfinite(lambda)) return {Code::invalid_argument, "lambda", 0};
  if (!trellis_fits(weights, count, step)) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  const double scale = 1.0 / static_cast<double>(step);
  RateModel model(coding.unary_length, first_parameter_sets(weights, count, coding, step), lambda);
  if (coding.dq) {
    Dependent search(model, count, scale, keep_zeros);
    in_coding_order(weights, coding, [&](const float* w, std::size_t n) { search.take(w, n); });
    const std::uint8_t* const choice = search.choice();
    in_raster_order(coding, [&](std::size_t at, std::size_t coded, std::size_t n) {
      best_multiples(weights + at, n, scale, choice + coded, out + at);
    });
  } else {
    Uniform search(model, scale);
    in_raster_order(coding, [&](std::size_t at, std::size_t, std::size_t n) { search.take(weights + at, n, out + at); });
  }
  return {};
}

}  // namespace nnc
