#include "trial_kernels.h"

#ifdef NNC_AVX2
#include <immintrin.h>
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

// Bytes of kStep for estimators on the wrong side of a bin (below, index 0..15) and on its side (above).
struct StepBytes {
  alignas(32) std::uint8_t below[32];
  alignas(32) std::uint8_t above[32];
};
constexpr StepBytes make_step_bytes() {
  StepBytes t{};
  for (int i = 0; i < 32; ++i) {
    t.below[i] = kStep[i & 15];
    t.above[i] = kStep[16 + (i & 15)];
  }
  return t;
}
constexpr StepBytes kStepBytes = make_step_bytes();

// Factors whose product's upper half shifts a doubled step to the right.
struct Scales {
  alignas(32) std::uint16_t fast[16];
  alignas(32) std::uint16_t slow[16];
};
constexpr Scales make_scales() {
  Scales t{};
  for (int i = 0; i < kParameterSets; ++i) {
    t.fast[i] = static_cast<std::uint16_t>(1u << (15 - kParameterSet[i].fast_shift));
    t.slow[i] = static_cast<std::uint16_t>(1u << (15 - kParameterSet[i].slow_shift));
  }
  return t;
}
constexpr Scales kScales = make_scales();

NNC_TARGET_AVX2 inline __m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
NNC_TARGET_AVX2 inline void store(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }

// Nine estimator pairs and what the bins cost so far; 64 bins stay within 32 bits.
struct Nine {
  __m256i f, s, total;
  std::uint32_t last;

  NNC_TARGET_AVX2 NNC_INLINE void begin(const TrialLanes& lanes) {
    f = load(lanes.f);
    s = load(lanes.s);
    clear();
  }
  NNC_TARGET_AVX2 NNC_INLINE void clear() {
    total = _mm256_setzero_si256();
    last = 0;
  }
  NNC_TARGET_AVX2 NNC_INLINE void add_to(TrialCosts& sum) const {
    alignas(32) std::uint32_t eight[8];
    store(eight, total);
    for (std::size_t i = 0; i < 8; ++i) sum[i] += eight[i];
    sum[8] += last;
  }
  NNC_TARGET_AVX2 NNC_INLINE void end(TrialLanes& lanes) const {
    store(lanes.f, f);
    store(lanes.s, s);
  }

  // Twice the table entry of every 16-bit lane for t in -16..15. A shuffle index with its top bit set yields zero.
  NNC_TARGET_AVX2 static NNC_INLINE __m256i doubled_step(__m256i t) {
    const __m256i to_below = _mm256_set1_epi16(static_cast<short>(0x8080));
    const __m256i to_above = _mm256_set1_epi16(static_cast<short>(0x8000));
    const __m256i low = _mm256_shuffle_epi8(load(kStepBytes.below), _mm256_add_epi16(t, to_below));
    const __m256i high = _mm256_shuffle_epi8(load(kStepBytes.above), _mm256_or_si256(t, to_above));
    return _mm256_slli_epi16(_mm256_or_si256(low, high), 1);
  }
  NNC_TARGET_AVX2 NNC_INLINE void step(unsigned bit, const CostTable& costs) {
    const __m256i index = _mm256_srai_epi16(_mm256_add_epi16(_mm256_slli_epi16(f, 4), s), 3);
    const std::uint32_t* const of_bit = costs.bit[bit].data() + 512;
    total = _mm256_add_epi32(total, _mm256_i32gather_epi32(reinterpret_cast<const int*>(of_bit),
                                                           _mm256_cvtepi16_epi32(_mm256_castsi256_si128(index)), 4));
    last += of_bit[static_cast<std::int16_t>(_mm256_extract_epi16(index, 8))];
    const __m256i d = _mm256_set1_epi16(static_cast<short>(2 * static_cast<int>(bit) - 1));
    const __m256i df = doubled_step(_mm256_srai_epi16(_mm256_sign_epi16(f, d), 3));
    const __m256i ds = doubled_step(_mm256_srai_epi16(_mm256_sign_epi16(s, d), 7));
    f = _mm256_add_epi16(f, _mm256_sign_epi16(_mm256_mulhi_epu16(df, load(kScales.fast)), d));
    s = _mm256_add_epi16(s, _mm256_sign_epi16(_mm256_mulhi_epu16(ds, load(kScales.slow)), d));
  }
};

NNC_TARGET_AVX2 void try_avx2(TrialLanes& lanes, std::uint64_t word, unsigned count, const CostTable& costs, TrialCosts& sum) {
  Nine nine;
  nine.begin(lanes);
  for (unsigned b = 0; b < count; ++b) nine.step(static_cast<unsigned>(word >> b) & 1u, costs);
  nine.end(lanes);
  nine.add_to(sum);
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
