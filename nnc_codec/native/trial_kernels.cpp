#include "trial_kernels.h"

#include "estimator_lanes.h"

#ifdef NNC_AVX2
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in the header: operands that are left undefined on purpose
#endif
#endif

namespace nnc {

namespace {

void try_portable(TrialLanes& lanes, std::uint64_t word, unsigned count, const CostTable& costs, TrialCosts& sum) {
  for (std::size_t i = 0; i < kParameterSets; ++i) {
    const detail::Steps& steps = kSteps[i];
    std::int64_t f = 16 * lanes.f[i], s = lanes.s[i];
    std::uint64_t cost = 0;
    for (unsigned b = 0; b < count; ++b) {
      const unsigned bit = static_cast<unsigned>(word >> b) & 1u;
      const std::int64_t below = bit ^ 1u;
      cost += costs.bit[bit][static_cast<std::size_t>(((f + s) >> 3) + 512)];
      f += steps.fast(bit, static_cast<unsigned>(((f - below) >> 7) + 16));
      s += steps.slow(bit, static_cast<unsigned>(((s - below) >> 7) + 16));
    }
    lanes.f[i] = static_cast<std::int16_t>(f >> 4);
    lanes.s[i] = static_cast<std::int16_t>(s);
    sum[i] += cost;
  }
}

#ifdef NNC_AVX2

// Shifts of the sets' estimators.
struct Scales {
  alignas(32) std::uint16_t fast[16];
  alignas(32) std::uint16_t slow[16];
};
constexpr Scales make_scales() {
  Scales t{};
  for (int i = 0; i < kParameterSets; ++i) {
    t.fast[i] = scale_of(kParameterSet[i].fast_shift);
    t.slow[i] = scale_of(kParameterSet[i].slow_shift);
  }
  return t;
}
constexpr Scales kScales = make_scales();

// Nine estimator pairs and what the bins cost so far; 64 bins stay within 32 bits.
struct Nine {
  EstimatorLanes at;
  __m256i total;
  std::uint32_t last;

  NNC_TARGET_AVX2 NNC_INLINE void begin(const TrialLanes& lanes) {
    at = {load(lanes.f), load(lanes.s)};
    total = _mm256_setzero_si256();
    last = 0;
  }
  NNC_TARGET_AVX2 NNC_INLINE void end(TrialLanes& lanes, TrialCosts& sum) const {
    store(lanes.f, at.f);
    store(lanes.s, at.s);
    alignas(32) std::uint32_t eight[8];
    store(eight, total);
    for (std::size_t i = 0; i < 8; ++i) sum[i] += eight[i];
    sum[8] += last;
  }
  NNC_TARGET_AVX2 NNC_INLINE void step(unsigned bit, const CostTable& costs) {
    const __m256i index = _mm256_srai_epi16(at.q(), 3);
    const std::uint32_t* const of_bit = costs.bit[bit].data() + 512;
    total = _mm256_add_epi32(total, _mm256_i32gather_epi32(reinterpret_cast<const int*>(of_bit),
                                                           _mm256_cvtepi16_epi32(_mm256_castsi256_si128(index)), 4));
    last += of_bit[static_cast<std::int16_t>(_mm256_extract_epi16(index, 8))];
    const __m256i direction = _mm256_set1_epi16(static_cast<short>(2 * static_cast<int>(bit) - 1));
    at.step(direction, load(kScales.fast), load(kScales.slow));
  }
};

NNC_TARGET_AVX2 void try_avx2(TrialLanes& lanes, std::uint64_t word, unsigned count, const CostTable& costs, TrialCosts& sum) {
  Nine nine;
  nine.begin(lanes);
  for (unsigned b = 0; b < count; ++b) nine.step(static_cast<unsigned>(word >> b) & 1u, costs);
  nine.end(lanes, sum);
}

// One model, both estimators in one register. They are negated while the bins are zeros, so that every bin draws them up;
// a change of the bin is what turns the sign.
struct OneTables {
  alignas(64) std::int16_t step[32];     // by the five low bits of the estimator's distance from the middle
  alignas(64) std::uint16_t scale[32];   // distance from the middle to the column of kStep
  alignas(64) std::uint16_t shifts[32];
  alignas(32) std::int16_t below[2][16];  // zeros are counted from one below, by the bin
};
constexpr OneTables make_one_tables() {
  OneTables t{};
  for (int i = -16; i < 16; ++i) t.step[i & 31] = kStep[i + 16];
  for (std::size_t i = 0; i < 16; ++i) {
    t.scale[i] = 3;
    t.scale[16 + i] = 7;
    t.below[0][i] = -1;
  }
  for (std::size_t set = 0; set < kParameterSets; ++set) {
    t.shifts[set] = kParameterSet[set].fast_shift;
    t.shifts[16 + set] = kParameterSet[set].slow_shift;
  }
  return t;
}
constexpr OneTables kOne = make_one_tables();

NNC_TARGET_AVX512 void try_avx512(TrialLanes& lanes, std::uint64_t word, unsigned count, const CostTable& costs, TrialCosts& sum) {
  const __m512i none = _mm512_setzero_si512(), steps = _mm512_load_si512(kOne.step);
  const __m512i scale = _mm512_load_si512(kOne.scale), shifts = _mm512_load_si512(kOne.shifts);
  const std::uint32_t* const tables[2] = {costs.mirrored_zero.data() + 512, costs.bit[1].data() + 512};
  __m512i x = _mm512_loadu_si512(&lanes);
  __m256i total = _mm256_setzero_si256();
  std::uint64_t last = 0;
  std::uint64_t turns = word ^ (word << 1 | 1u);
  bool up = true;
  for (unsigned i = 0; i < count; ++i, word >>= 1, turns >>= 1) {
    up = word & 1u;
    x = _mm512_mask_sub_epi16(x, static_cast<__mmask32>(0u - (static_cast<std::uint32_t>(turns) & 1u)), none, x);
    const __m256i q = _mm256_add_epi16(_mm256_slli_epi16(_mm512_castsi512_si256(x), 4), _mm512_extracti64x4_epi64(x, 1));
    alignas(32) std::int16_t index[16];
    const __m256i columns = _mm256_srai_epi16(_mm256_add_epi16(q, load(kOne.below[up])), 3);
    store(index, columns);
    total = _mm256_add_epi32(total, _mm256_i32gather_epi32(reinterpret_cast<const int*>(tables[up]),
                                                           _mm256_cvtepi16_epi32(_mm256_castsi256_si128(columns)), 4));
    last += tables[up][index[8]];
    const __m512i step = _mm512_permutexvar_epi16(_mm512_srav_epi16(x, scale), steps);
    x = _mm512_add_epi16(x, _mm512_srlv_epi16(step, shifts));
  }
  if (!up) x = _mm512_sub_epi16(none, x);
  _mm512_storeu_si512(&lanes, x);
  alignas(32) std::uint32_t eight[8];
  store(eight, total);
  for (std::size_t i = 0; i < 8; ++i) sum[i] += eight[i];
  sum[8] += last;
}

#endif

}  // namespace

void try_bins(TrialLanes& lanes, std::uint64_t word, unsigned count, TrialCosts& sum) {
  const CostTable& costs = cost_table();
#ifdef NNC_AVX2
  if (has_avx512()) return try_avx512(lanes, word, count, costs, sum);
  if (has_avx2()) return try_avx2(lanes, word, count, costs, sum);
#endif
  try_portable(lanes, word, count, costs, sum);
}

}  // namespace nnc
