#include "feedback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "binarization.h"
#include "cpu.h"
#include "rate_model.h"
#include "trellis.h"

#ifdef NNC_AVX2
#include <immintrin.h>
#endif

namespace nnc {

namespace {

constexpr std::size_t kDelay = 16;          // weights that are decided together; the next as many are still open then
constexpr std::size_t kOpen = 2 * kDelay;
constexpr std::size_t kBlock = 64;          // decided weights between two looks at the rates
constexpr float kDead = 1e30f;              // cost of a path that is given up
constexpr float kLargest = 1073741824.0f;   // targets beyond are cut off
constexpr std::int32_t kTop = RateTables::kMagnitudes - 1;
constexpr float kMostImportant = 1e12f;     // with this, paths that live never cost as much as one that is given up

// Also for NaN, which sums of huge errors can become.
inline float bounded(float x) {
  const float below = x < kLargest ? x : kLargest;
  return below > -kLargest ? below : -kLargest;
}

// The coder's models, following the levels that are decided.
class Rates {
 public:
  Rates(RateModel model, bool dependent) : model_(std::move(model)), dependent_(dependent) { model_.tabulate(tables); }

  void decided(std::int32_t integer) {
    const std::int32_t level = dependent_ ? level_of(integer, state_) : integer;
    model_.code(level, state_);
    if (dependent_) state_ = kNextState[state_][level & 1];
    if (++count_ % kBlock == 0) model_.tabulate(tables);
  }

  RateTables tables;

 private:
  RateModel model_;
  bool dependent_;
  std::uint32_t state_ = 0;
  std::size_t count_ = 0;
};

// Survivors of dependent quantization with their open decisions, the oldest first.
struct Survivors {
  alignas(32) float cost[8];
  alignas(32) std::int32_t neighbour[8];
  alignas(32) float error[kOpen][8];
  alignas(32) std::int32_t multiple[kOpen][8];
  std::size_t open = 0;

  Survivors() {
    std::fill(cost, cost + 8, kDead);
    std::fill(neighbour, neighbour + 8, 0);
    std::memset(error, 0, sizeof error);
    std::memset(multiple, 0, sizeof multiple);
    cost[0] = 0;
  }

  // Decides the oldest `count` on the best path and gives up the paths that differ.
  void decide(std::size_t count, std::int32_t* multiples, float* errors) {
    const std::size_t best = static_cast<std::size_t>(std::min_element(cost, cost + 8) - cost);
    const float least = cost[best];
    for (std::size_t s = 0; s < 8; ++s) {
      bool same = cost[s] < kDead;
      for (std::size_t i = 0; i < count && same; ++i) same = multiple[i][s] == multiple[i][best];
      cost[s] = same ? cost[s] - least : kDead;
    }
    for (std::size_t i = 0; i < count; ++i) {
      multiples[i] = multiple[i][best];
      errors[i] = error[i][best];
    }
    open -= count;
    std::memmove(multiple, multiple + count, open * sizeof multiple[0]);
    std::memmove(error, error + count, open * sizeof error[0]);
  }
};

// Extends the survivors by one weight: `original` and, for every survivor, `target`, both in steps.
struct Portable {
  static void extend(Survivors& at, float original, const float* target, float importance, const RateTables& rates) {
    float even_cost[8], odd_cost[8];
    std::int32_t even_multiple[8], odd_multiple[8];
    for (std::int32_t s = 0; s < 8; ++s) {
      const float t = bounded(target[s]);
      const float o = std::fabs(t);
      const std::int32_t negative = t < 0.0f;
      const std::int32_t lo = std::max(static_cast<std::int32_t>(o) - 1, 1);
      const std::int32_t even = in_slot(lo, s & 1 ? 3 : 0), odd = in_slot(lo, s & 1 ? 1 : 2);
      const float sign = rates.some[negative][at.neighbour[s]][s];
      const float even_rate = rates.magnitude[negative][std::min((even + 1) >> 1, kTop)];
      const float odd_rate = rates.magnitude[negative][std::min((odd + 1) >> 1, kTop)];
      const float even_error = o - static_cast<float>(even), odd_error = o - static_cast<float>(odd);
      const float none = rates.zero[at.neighbour[s]][s] + importance * (o * o);
      const float some = (sign + even_rate) + importance * (even_error * even_error);
      const bool zero = none < some;
      even_cost[s] = at.cost[s] + (zero ? none : some);
      odd_cost[s] = at.cost[s] + ((sign + odd_rate) + importance * (odd_error * odd_error));
      even_multiple[s] = zero ? 0 : negative ? -even : even;
      odd_multiple[s] = negative ? -odd : odd;
    }
    std::int32_t from[8];
    for (int s = 0; s < 8; ++s) {
      const float over_even = even_cost[kEvenFrom[s]], over_odd = odd_cost[kOddFrom[s]];
      const bool take_odd = over_odd < over_even;
      from[s] = take_odd ? kOddFrom[s] : kEvenFrom[s];
      at.cost[s] = take_odd ? over_odd : over_even;
      const std::int32_t multiple = take_odd ? odd_multiple[kOddFrom[s]] : even_multiple[kEvenFrom[s]];
      at.multiple[at.open][s] = multiple;
      at.error[at.open][s] = original - static_cast<float>(multiple);
      at.neighbour[s] = multiple == 0 ? 0 : multiple < 0 ? 1 : 2;
    }
    for (std::size_t i = 0; i < at.open; ++i) {
      float error[8];
      std::int32_t multiple[8];
      for (int s = 0; s < 8; ++s) {
        error[s] = at.error[i][from[s]];
        multiple[s] = at.multiple[i][from[s]];
      }
      std::copy(error, error + 8, at.error[i]);
      std::copy(multiple, multiple + 8, at.multiple[i]);
    }
    ++at.open;
  }
};

#ifdef NNC_AVX2
// One lane per survivor; the same sums in the same order.
struct Avx2 {
  NNC_TARGET_AVX2 static inline __m256i load(const std::int32_t* from) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
  }
  NNC_TARGET_AVX2 static inline void store(std::int32_t* to, __m256i v) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), v);
  }

  NNC_TARGET_AVX2 static inline void extend(Survivors& at, float original, const float* target, float importance,
                                            const RateTables& rates) {
    const __m256i one = _mm256_set1_epi32(1), three = _mm256_set1_epi32(3), top = _mm256_set1_epi32(kTop);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i even_slot = _mm256_setr_epi32(0, 3, 0, 3, 0, 3, 0, 3), odd_slot = _mm256_setr_epi32(2, 1, 2, 1, 2, 1, 2, 1);
    const __m256 weight = _mm256_set1_ps(importance);
    // The second operand is what comparisons with NaN give, as in bounded().
    const __m256 t = _mm256_max_ps(_mm256_min_ps(_mm256_load_ps(target), _mm256_set1_ps(kLargest)), _mm256_set1_ps(-kLargest));
    const __m256 o = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), t);
    const __m256i negative = _mm256_castps_si256(_mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_LT_OQ));  // 0 or -1
    const __m256i lo = _mm256_max_epi32(_mm256_sub_epi32(_mm256_cvttps_epi32(o), one), one);
    const __m256i even = _mm256_add_epi32(lo, _mm256_and_si256(_mm256_sub_epi32(even_slot, lo), three));
    const __m256i odd = _mm256_add_epi32(lo, _mm256_and_si256(_mm256_sub_epi32(odd_slot, lo), three));

    const __m256i at_neighbour = _mm256_add_epi32(_mm256_slli_epi32(load(at.neighbour), 3), lane);
    const __m256i at_sign = _mm256_add_epi32(at_neighbour, _mm256_and_si256(negative, _mm256_set1_epi32(24)));
    const __m256i by_sign = _mm256_and_si256(negative, _mm256_set1_epi32(RateTables::kMagnitudes));
    const __m256i even_level = _mm256_min_epi32(_mm256_srli_epi32(_mm256_add_epi32(even, one), 1), top);
    const __m256i odd_level = _mm256_min_epi32(_mm256_srli_epi32(_mm256_add_epi32(odd, one), 1), top);
    const __m256 zero_rate = _mm256_i32gather_ps(&rates.zero[0][0], at_neighbour, 4);
    const __m256 sign = _mm256_i32gather_ps(&rates.some[0][0][0], at_sign, 4);
    const __m256 even_rate = _mm256_i32gather_ps(&rates.magnitude[0][0], _mm256_add_epi32(even_level, by_sign), 4);
    const __m256 odd_rate = _mm256_i32gather_ps(&rates.magnitude[0][0], _mm256_add_epi32(odd_level, by_sign), 4);

    const __m256 even_error = _mm256_sub_ps(o, _mm256_cvtepi32_ps(even)), odd_error = _mm256_sub_ps(o, _mm256_cvtepi32_ps(odd));
    const __m256 none = _mm256_add_ps(zero_rate, _mm256_mul_ps(weight, _mm256_mul_ps(o, o)));
    const __m256 some = _mm256_add_ps(_mm256_add_ps(sign, even_rate), _mm256_mul_ps(weight, _mm256_mul_ps(even_error, even_error)));
    const __m256 other = _mm256_add_ps(_mm256_add_ps(sign, odd_rate), _mm256_mul_ps(weight, _mm256_mul_ps(odd_error, odd_error)));
    const __m256i zero = _mm256_castps_si256(_mm256_cmp_ps(none, some, _CMP_LT_OQ));
    const __m256 cost = _mm256_load_ps(at.cost);
    const __m256 even_cost = _mm256_add_ps(cost, _mm256_min_ps(none, some)), odd_cost = _mm256_add_ps(cost, other);
    const __m256i even_signed = _mm256_sub_epi32(_mm256_xor_si256(even, negative), negative);
    const __m256i even_multiple = _mm256_andnot_si256(zero, even_signed);
    const __m256i odd_multiple = _mm256_sub_epi32(_mm256_xor_si256(odd, negative), negative);

    const __m256i even_from = _mm256_setr_epi32(0, 2, 4, 6, 7, 5, 3, 1), odd_from = _mm256_setr_epi32(4, 6, 0, 2, 3, 1, 7, 5);
    const __m256 over_even = _mm256_permutevar8x32_ps(even_cost, even_from);
    const __m256 over_odd = _mm256_permutevar8x32_ps(odd_cost, odd_from);
    const __m256 take_odd = _mm256_cmp_ps(over_odd, over_even, _CMP_LT_OQ);
    const __m256i from = _mm256_blendv_epi8(even_from, odd_from, _mm256_castps_si256(take_odd));
    const __m256i multiple = _mm256_blendv_epi8(_mm256_permutevar8x32_epi32(even_multiple, even_from),
                                                _mm256_permutevar8x32_epi32(odd_multiple, odd_from), _mm256_castps_si256(take_odd));
    _mm256_store_ps(at.cost, _mm256_min_ps(over_odd, over_even));
    for (std::size_t i = 0; i < at.open; ++i) {
      _mm256_store_ps(at.error[i], _mm256_permutevar8x32_ps(_mm256_load_ps(at.error[i]), from));
      store(at.multiple[i], _mm256_permutevar8x32_epi32(load(at.multiple[i]), from));
    }
    store(at.multiple[at.open], multiple);
    _mm256_store_ps(at.error[at.open], _mm256_sub_ps(_mm256_set1_ps(original), _mm256_cvtepi32_ps(multiple)));
    const __m256i none_set = _mm256_setzero_si256();
    const __m256i below = _mm256_cmpgt_epi32(none_set, multiple), above = _mm256_cmpgt_epi32(multiple, none_set);
    store(at.neighbour, _mm256_sub_epi32(none_set, _mm256_add_epi32(below, _mm256_add_epi32(above, above))));
    ++at.open;
  }
};
#endif

// targets[x] += sum over i of weights[i * stride + x] * errors[i], for x in [0, n).
NNC_INLINE void add_errors(float* targets, std::size_t n, const float* weights, std::size_t stride, const float* errors,
                           std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const float* const row = weights + i * stride;
    const float e = errors[i];
    for (std::size_t x = 0; x < n; ++x) targets[x] += row[x] * e;
  }
}

class Search {
 public:
  Search(const FeedbackProblem& p, Rates& rates, float step, std::int32_t* out)
      : p_(p), rates_(rates), scale_(1.0 / static_cast<double>(step)), out_(out) {}

  template <class Kernel>
  NNC_INLINE void along(bool dependent) {
    const std::size_t n = static_cast<std::size_t>(p_.cols);
    std::vector<float> original(n), target(n);
    for (std::uint64_t y = 0; y < p_.rows; ++y) {
      const std::uint64_t group = y / (p_.rows / p_.groups);
      const float* const feedback = p_.feedback + group * n * n;
      const float* const importance = p_.importance + group * n;
      scaled(p_.weights + y * n, n, original.data());
      target = original;
      if (p_.pull) pulled(p_.pull + y * n, n, target.data());
      if (dependent) {
        row_along<Kernel>(n, feedback, importance, original.data(), target.data());
      } else {
        for (std::size_t x = 0; x < n; ++x) {
          const std::int32_t q = stays_zero(original[x]) ? 0 : nearest(target[x], importance[x]);
          take(q);
          const float e = original[x] - static_cast<float>(q);
          add_errors(target.data() + x + 1, n - x - 1, feedback + x * n + x + 1, n, &e, 1);
        }
      }
    }
    if (dependent) flush();
  }

  template <class Kernel>
  NNC_INLINE void across(bool dependent) {
    const std::size_t n = static_cast<std::size_t>(p_.cols), rows = static_cast<std::size_t>(p_.rows);
    std::vector<float> original(n * rows);
    scaled(p_.weights, n * rows, original.data());
    std::vector<float> target(original);
    if (p_.pull) pulled(p_.pull, n * rows, target.data());
    std::vector<float> errors(kDelay * n);
    std::vector<float> column(kDelay);
    for (std::size_t top = 0; top < rows; top += kDelay) {
      const std::size_t count = std::min(kDelay, rows - top);
      for (std::size_t k = 0; k < count; ++k) {
        const std::size_t y = top + k;
        float* const row = target.data() + y * n;
        for (std::size_t i = 0; i < k; ++i) column[i] = p_.feedback[(top + i) * rows + y];
        add_errors(row, n, errors.data(), n, column.data(), k);
        row_across<Kernel>(n, dependent, original.data() + y * n, row, p_.importance[y], errors.data() + k * n);
      }
      for (std::size_t y = top + count; y < rows; ++y) {
        for (std::size_t i = 0; i < count; ++i) column[i] = p_.feedback[(top + i) * rows + y];
        add_errors(target.data() + y * n, n, errors.data(), n, column.data(), count);
      }
    }
  }

 private:
  void scaled(const float* w, std::size_t n, float* to) const {
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<float>(scale_ * static_cast<double>(w[i]));
  }

  void pulled(const float* pull, std::size_t n, float* target) const {
    for (std::size_t i = 0; i < n; ++i) target[i] += static_cast<float>(scale_ * static_cast<double>(pull[i]));
  }

  // A change d of a weight that the others pull by c costs (d + c)^2 - c^2, and open decisions pull on every path differently.
  void discount(const float* wanted, float original, float importance) {
    for (int s = 0; s < 8; ++s) {
      const float c = bounded(wanted[s]) - original;
      at_.cost[s] -= importance * (c * c);
    }
  }

  void take(std::int32_t q) {
    rates_.decided(q);
    out_[done_++] = q;
    neighbour_ = neighbour_class(q);
  }

  bool stays_zero(float original) const { return p_.keep_zeros && original == 0.0f; }

  template <class Kernel>
  NNC_INLINE void extend(float original, float* wanted, float importance) {
    if (stays_zero(original)) {
      // No level but zero is worth what it costs.
      std::fill(wanted, wanted + 8, 0.0f);
      importance = kMostImportant;
    }
    Kernel::extend(at_, original, wanted, importance, rates_.tables);
  }

  std::int32_t nearest(float target, float importance) const {
    const float t = bounded(target);
    const float o = std::fabs(t);
    const std::uint32_t negative = t < 0.0f;
    const RateTables& rates = rates_.tables;
    const std::int32_t most = static_cast<std::int32_t>(o + 0.5f);
    float least = importance * (o * o) + rates.zero[neighbour_][0];
    std::int32_t best = 0;
    for (std::int32_t q = std::max(1, most - 1); q <= most; ++q) {
      const float e = o - static_cast<float>(q);
      const float cost =
          importance * (e * e) + (rates.some[negative][neighbour_][0] + rates.of(negative, static_cast<std::uint32_t>(q)));
      if (cost < least) {
        least = cost;
        best = q;
      }
    }
    return negative ? -best : best;
  }

  // Decides the oldest `count`; their errors go to `errors`.
  void decide(std::size_t count, float* errors) {
    std::int32_t multiples[kOpen];
    at_.decide(count, multiples, errors);
    for (std::size_t i = 0; i < count; ++i) take(multiples[i]);
  }

  void flush() {
    float errors[kOpen];
    decide(at_.open, errors);
  }

  template <class Kernel>
  NNC_INLINE void row_along(std::size_t n, const float* feedback, const float* importance, const float* original,
                            float* target) {
    float errors[kDelay];
    std::size_t before = at_.open;  // open decisions of the row before, whose errors this row does not feel
    std::size_t first = 0;          // column of the oldest open decision of this row
    for (std::size_t x = 0; x < n; ++x) {
      if (at_.open == kOpen) {
        decide(kDelay, errors);
        const std::size_t old = std::min(before, kDelay), own = kDelay - old;
        before -= old;
        add_errors(target + x, n - x, feedback + first * n + x, n, errors + old, own);
        first += own;
      }
      alignas(32) float wanted[8];
      std::fill(wanted, wanted + 8, target[x]);
      for (std::size_t i = before; i < at_.open; ++i) {
        const float f = feedback[(first + i - before) * n + x];
        for (int s = 0; s < 8; ++s) wanted[s] += f * at_.error[i][s];
      }
      if (p_.pull) discount(wanted, original[x], importance[x]);
      extend<Kernel>(original[x], wanted, importance[x]);
    }
  }

  template <class Kernel>
  NNC_INLINE void row_across(std::size_t n, bool dependent, const float* original, const float* target, float importance,
                             float* errors) {
    if (!dependent) {
      for (std::size_t x = 0; x < n; ++x) {
        const std::int32_t q = stays_zero(original[x]) ? 0 : nearest(target[x], importance);
        take(q);
        errors[x] = original[x] - static_cast<float>(q);
      }
      return;
    }
    std::size_t decided = 0;
    for (std::size_t x = 0; x < n; ++x) {
      if (at_.open == kOpen) {
        decide(kDelay, errors + decided);
        decided += kDelay;
      }
      alignas(32) float wanted[8];
      std::fill(wanted, wanted + 8, target[x]);
      extend<Kernel>(original[x], wanted, importance);
    }
    decide(at_.open, errors + decided);
  }

  const FeedbackProblem& p_;
  Rates& rates_;
  double scale_;
  std::int32_t* out_;
  std::size_t done_ = 0;
  std::uint32_t neighbour_ = 0;
  Survivors at_;
};

void run_portable(Search& search, bool across, bool dependent) {
  across ? search.across<Portable>(dependent) : search.along<Portable>(dependent);
}
#ifdef NNC_AVX2
NNC_TARGET_AVX2 void run_avx2(Search& search, bool across, bool dependent) {
  across ? search.across<Avx2>(dependent) : search.along<Avx2>(dependent);
}
#endif

}  // namespace

Status quantize_feedback(const FeedbackProblem& p, bool dependent, std::uint32_t unary_length, float step, float lambda,
                         std::int32_t* out) {
  if (!(lambda >= 0.0f) || !std::isfinite(lambda)) return {Code::invalid_argument, "lambda", 0};
  if (p.groups == 0 || p.rows % p.groups || (p.across && p.groups != 1)) return {Code::invalid_argument, "groups", 0};
  const std::uint64_t n = p.across ? p.rows : p.cols;
  const auto fair = [](float v) { return v >= 0.0f && v <= kMostImportant; };
  if (!std::all_of(p.feedback, p.feedback + p.groups * n * n, [](float v) { return std::isfinite(v); }) ||
      !std::all_of(p.importance, p.importance + p.groups * n, fair))
    return {Code::invalid_argument, "second moments are not finite or too uneven", 0};
  const std::size_t count = static_cast<std::size_t>(p.rows * p.cols);
  if (p.pull && !std::all_of(p.pull, p.pull + count, [](float v) { return std::isfinite(v); }))
    return {Code::invalid_argument, "pull is not finite", 0};
  if (!trellis_fits(p.weights, count, step)) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  TensorCoding coding;
  coding.dq = dependent;
  coding.unary_length = unary_length;
  Rates rates(RateModel(unary_length, likely_parameter_sets(p.weights, count, coding, step), lambda), dependent);
  Search search(p, rates, step, out);
#ifdef NNC_AVX2
  if (has_avx2()) {
    run_avx2(search, p.across, dependent);
    return {};
  }
#endif
  run_portable(search, p.across, dependent);
  return {};
}

}  // namespace nnc
