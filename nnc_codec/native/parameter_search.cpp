#include "parameter_search.h"

#include <algorithm>
#include <array>

#include "binarization.h"
#include "cost.h"
#include "cpu.h"

#ifdef NNC_AVX2
#include <immintrin.h>
#endif

namespace nnc {

namespace {

constexpr std::uint64_t kIndexCost = 3 * kBypassCost;
constexpr int kWord = 64;  // bins tried at once

// Estimators of the nine sets, one 16-bit lane each; the last seven lanes are idle.
struct alignas(32) Lanes {
  std::int16_t f[16];
  std::int16_t s[16];
  bool operator==(const Lanes& other) const {
    return std::equal(f, f + kParameterSets, other.f) && std::equal(s, s + kParameterSets, other.s);
  }
};
using Costs = std::array<std::uint32_t, kParameterSets>;

// Runs `count` bins, first one in the highest of the `count` low bits of `word`.
void run_portable(Lanes& lanes, std::uint64_t word, int count, const CostTable& costs, Costs& sum) {
  for (int i = 0; i < kParameterSets; ++i) {
    int f = lanes.f[i], s = lanes.s[i];
    std::uint32_t cost = 0;
    for (int b = count; b-- > 0;) {
      const unsigned bit = static_cast<unsigned>(word >> b) & 1u;
      cost += costs.bit[bit][static_cast<std::size_t>(((16 * f + s) >> 3) + 512)];
      const int below = static_cast<int>(bit ^ 1u);
      f += static_cast<int>(kSteps[i].fast[bit][((16 * f - below) >> 7) + 16] >> 4);
      s += static_cast<int>(kSteps[i].slow[bit][((s - below) >> 7) + 16]);
    }
    lanes.f[i] = static_cast<std::int16_t>(f);
    lanes.s[i] = static_cast<std::int16_t>(s);
    sum[static_cast<std::size_t>(i)] = cost;
  }
}

#ifdef NNC_AVX2
// Step of every lane: kStep[16 + t] >> shift, where t is the estimator towards the bit, in -16..15.
__attribute__((target("avx2"))) inline __m256i steps(__m256i t, __m256i doubled_low, __m256i scale) {
  const __m256i low = _mm256_shuffle_epi8(
      doubled_low, _mm256_or_si256(_mm256_and_si256(t, _mm256_set1_epi16(15)), _mm256_set1_epi16(-32768)));
  const __m256i high = _mm256_andnot_si256(_mm256_cmpeq_epi16(t, _mm256_set1_epi16(15)), _mm256_set1_epi16(2 * 4));
  // The table of bytes cannot hold doubled entries, so the shift to the left happens here.
  const __m256i either = _mm256_blendv_epi8(high, _mm256_add_epi16(low, low), _mm256_srai_epi16(t, 15));
  return _mm256_mulhi_epu16(either, scale);
}

__attribute__((target("avx2"))) void run_avx2(Lanes& lanes, std::uint64_t word, int count, const CostTable& costs,
                                              Costs& sum) {
  alignas(32) std::uint16_t fast_scale[16] = {}, slow_scale[16] = {};
  alignas(32) std::uint8_t table[32];
  for (int i = 0; i < kParameterSets; ++i) {
    fast_scale[i] = static_cast<std::uint16_t>(1u << (15 - kParameterSet[i].fast_shift));
    slow_scale[i] = static_cast<std::uint16_t>(1u << (15 - kParameterSet[i].slow_shift));
  }
  for (int i = 0; i < 32; ++i) table[i] = kStep[i & 15];
  const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(table));
  const __m256i fast = _mm256_load_si256(reinterpret_cast<const __m256i*>(fast_scale));
  const __m256i slow = _mm256_load_si256(reinterpret_cast<const __m256i*>(slow_scale));
  __m256i f = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes.f));
  __m256i s = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes.s));
  __m256i total = _mm256_setzero_si256();
  std::uint32_t last = 0;
  for (int b = count; b-- > 0;) {
    const int bit = static_cast<int>(word >> b & 1u);
    const __m256i index = _mm256_srai_epi16(_mm256_add_epi16(_mm256_slli_epi16(f, 4), s), 3);
    const std::uint32_t* const of_bit = costs.bit[static_cast<std::size_t>(bit)].data() + 512;
    total = _mm256_add_epi32(total, _mm256_i32gather_epi32(reinterpret_cast<const int*>(of_bit),
                                                           _mm256_cvtepi16_epi32(_mm256_castsi256_si128(index)), 4));
    last += of_bit[static_cast<std::int16_t>(_mm256_extract_epi16(index, 8))];
    const __m256i d = _mm256_set1_epi16(static_cast<short>(2 * bit - 1));
    const __m256i tf = _mm256_srai_epi16(_mm256_sign_epi16(f, d), 3);
    const __m256i ts = _mm256_srai_epi16(_mm256_sign_epi16(s, d), 7);
    f = _mm256_add_epi16(f, _mm256_sign_epi16(steps(tf, low, fast), d));
    s = _mm256_add_epi16(s, _mm256_sign_epi16(steps(ts, low, slow), d));
  }
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes.f), f);
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes.s), s);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sum.data()), total);
  sum[8] = last;
}
#endif

using Run = void (*)(Lanes&, std::uint64_t, int, const CostTable&, Costs&);

Run pick_run() {
#ifdef NNC_AVX2
  if (has_avx2()) return run_avx2;
#endif
  return run_portable;
}

// Trial of one model: the nine accumulators and the bins not yet tried.
class Trial {
 public:
  void start() {
    for (int i = 0; i < kParameterSets; ++i) {
      lanes_.f[i] = kParameterSet[i].f;
      lanes_.s[i] = kParameterSet[i].s;
    }
    still_ = false;
  }
  void add(unsigned bit, Run run, const CostTable& costs) {
    word_ = (word_ << 1) | bit;
    if (++bits_ == kWord) flush(run, costs);
  }
  void flush(Run run, const CostTable& costs) {
    if (!bits_) return;
    // A word of zeros that left all estimators where they were costs the same again.
    if (!(still_ && word_ == 0 && bits_ == kWord)) {
      const Lanes before = lanes_;
      run(lanes_, word_, bits_, costs, word_cost_);
      still_ = word_ == 0 && bits_ == kWord && before == lanes_;
    }
    for (std::size_t i = 0; i < kParameterSets; ++i) cost_[i] += word_cost_[i];
    word_ = 0;
    bits_ = 0;
  }
  std::uint8_t best() const {
    std::uint64_t least = cost_[0];
    std::uint8_t set = 0;
    for (std::uint8_t i = 1; i < kParameterSets; ++i)
      if (cost_[i] + kIndexCost < least) {
        least = cost_[i] + kIndexCost;
        set = i;
      }
    return set;
  }

 private:
  Lanes lanes_{};
  std::uint64_t word_ = 0;
  int bits_ = 0;
  bool still_ = false;
  Costs word_cost_{};
  std::array<std::uint64_t, kParameterSets> cost_{};
};

class Search {
 public:
  explicit Search(std::uint32_t models) : run_(pick_run()), costs_(cost_table()), trials_(models) { restart(); }
  void bin(std::uint32_t model, bool bit) { trials_[model].add(bit, run_, costs_); }
  void bypass(std::uint32_t, unsigned) {}
  void level() {}
  void block_row(std::uint32_t) {
    flush();
    restart();
  }
  std::vector<std::uint8_t> result() {
    flush();
    std::vector<std::uint8_t> sets(trials_.size());
    for (std::size_t i = 0; i < trials_.size(); ++i) sets[i] = trials_[i].best();
    return sets;
  }

 private:
  void flush() {
    for (Trial& t : trials_) t.flush(run_, costs_);
  }
  void restart() {
    for (Trial& t : trials_) t.start();
  }
  Run run_;
  const CostTable& costs_;
  std::vector<Trial> trials_;
};

}  // namespace

std::vector<std::uint8_t> search_parameter_sets(const TensorCoding& coding, const ContextLayout& layout,
                                                const std::int32_t* values, const std::uint8_t* skip, bool hist_on) {
  Search search(layout.count);
  if (coding.dq)
    walk_levels<true, true>(coding, layout, values, skip, hist_on, search);
  else
    walk_levels<true, false>(coding, layout, values, skip, hist_on, search);
  return search.result();
}

}  // namespace nnc
