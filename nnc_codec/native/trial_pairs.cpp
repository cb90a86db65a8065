#include "trial_pairs.h"

#include "estimator_lanes.h"

#ifdef NNC_AVX2
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in the header: operands that are left undefined on purpose
#endif
#endif

namespace nnc {

bool Fold::find(const TrialLanes& lanes) {
  const auto same = [&lanes](std::size_t a, std::size_t b) {
    return lanes.f[a] == lanes.f[b] && lanes.s[a] == lanes.s[b] &&
           kParameterSet[a].fast_shift == kParameterSet[b].fast_shift &&
           kParameterSet[a].slow_shift == kParameterSet[b].slow_shift;
  };
  std::array<std::uint8_t, kParameterSets> first{};  // set of every lane
  std::size_t used = 0;
  for (std::size_t set = 0; set < kParameterSets; ++set) {
    std::size_t lane = 0;
    while (lane < used && !same(first[lane], set)) ++lane;
    if (lane == used) first[used++] = static_cast<std::uint8_t>(set);
    lane_of_[set] = static_cast<std::uint8_t>(lane);
  }
  found_ = used <= kLanes;
  for (std::size_t lane = 0; lane < kLanes; ++lane) set_of_[lane] = lane < used ? first[lane] : std::uint8_t{0};
  return found_;
}

namespace {

#ifdef NNC_AVX2

constexpr std::size_t kBoth = 2 * Fold::kLanes;

// Eight lanes of either model: first the fast estimators of both, then the slow ones.
struct PairLanes {
  alignas(64) std::int16_t estimator[2 * kBoth];
  alignas(64) std::uint16_t shift[2 * kBoth];
  alignas(64) std::uint32_t cost[kBoth];

  PairLanes(const TrialSide& a, const TrialSide& b) : estimator(), shift(), cost() {
    gather(a, 0);
    gather(b, Fold::kLanes);
  }
  void hand_back(const TrialSide& side, std::size_t from) const {
    for (std::size_t set = 0; set < kParameterSets; ++set) {
      const std::size_t at = from + side.fold.lane_of(set);
      side.lanes.f[set] = estimator[at];
      side.lanes.s[set] = estimator[kBoth + at];
      side.sum[set] += cost[at];
    }
  }

 private:
  void gather(const TrialSide& side, std::size_t to) {
    for (std::size_t lane = 0; lane < Fold::kLanes; ++lane) {
      const std::size_t set = side.fold.set_of(lane);
      estimator[to + lane] = side.lanes.f[set];
      estimator[kBoth + to + lane] = side.lanes.s[set];
      shift[to + lane] = kParameterSet[set].fast_shift;
      shift[kBoth + to + lane] = kParameterSet[set].slow_shift;
    }
  }
};

// By the bins of both models, the first one's in the lower bit.
struct PairTables {
  alignas(32) std::int16_t direction[4][kBoth];  // 1 for a one, -1 for a zero
  alignas(32) std::int16_t place[4][kBoth];      // what makes q of either sign the place of a cost, times eight
  std::uint32_t half[4];                         // lanes of models with a one
};
static_assert(offsetof(CostTable, mirrored_zero) == offsetof(CostTable, bit) + 2 * 1024 * sizeof(int));
constexpr std::int16_t kMirrored = 8 * 1024;  // from costs of ones to those of zeros, for q of the other sign
constexpr PairTables make_pair_tables() {
  PairTables t{};
  for (unsigned bins = 0; bins < 4; ++bins)
    for (std::size_t lane = 0; lane < kBoth; ++lane) {
      const bool one = bins >> (lane / Fold::kLanes) & 1u;
      t.direction[bins][lane] = one ? 1 : -1;
      t.place[bins][lane] = one ? 0 : kMirrored - 1;
      if (one) t.half[bins] |= std::uint32_t{0x10001} << lane;
    }
  return t;
}
constexpr PairTables kPair = make_pair_tables();

NNC_TARGET_AVX2 inline __m256i cost_of(const std::uint32_t* costs, __m128i index, __m256i total) {
  return _mm256_add_epi32(total, _mm256_i32gather_epi32(reinterpret_cast<const int*>(costs), _mm256_cvtepi16_epi32(index), 4));
}

NNC_TARGET_AVX2 void try_avx2(PairLanes& lanes, const std::uint64_t* a_words, const std::uint64_t* b_words, std::size_t count,
                              const CostTable& costs) {
  EstimatorLanes at{load(lanes.estimator), load(lanes.estimator + kBoth)};
  __m256i total_a = _mm256_setzero_si256(), total_b = total_a;
  alignas(32) std::uint16_t scale[2 * kBoth];
  for (std::size_t i = 0; i < 2 * kBoth; ++i) scale[i] = scale_of(lanes.shift[i]);
  const __m256i fast = load(scale), slow = load(scale + kBoth);
  for (std::size_t w = 0; w < count; ++w) {
    std::uint64_t of_a = a_words[w], of_b = b_words[w];
    for (unsigned i = 0; i < 64; ++i, of_a >>= 1, of_b >>= 1) {
      const unsigned a = of_a & 1u, b = of_b & 1u;
      const __m256i index = _mm256_srai_epi16(at.q(), 3);
      total_a = cost_of(costs.bit[a].data() + 512, _mm256_castsi256_si128(index), total_a);
      total_b = cost_of(costs.bit[b].data() + 512, _mm256_extracti128_si256(index, 1), total_b);
      at.step(load(kPair.direction[a | b << 1]), fast, slow);
    }
  }
  store(lanes.estimator, at.f);
  store(lanes.estimator + kBoth, at.s);
  store(lanes.cost, total_a);
  store(lanes.cost + Fold::kLanes, total_b);
}

struct WideTables {
  alignas(64) std::int16_t step[2 * kBoth];    // by the five low bits of an estimator's distance from the middle
  alignas(64) std::uint16_t scale[2 * kBoth];  // from an estimator to its distance
};
constexpr WideTables make_wide_tables() {
  WideTables t{};
  for (int i = -16; i < 16; ++i) t.step[i & 31] = kStep[i + 16];
  for (std::size_t lane = 0; lane < 2 * kBoth; ++lane) t.scale[lane] = lane < kBoth ? 3 : 7;
  return t;
}
constexpr WideTables kWide = make_wide_tables();

// Estimators are negated while the bins of their model are zeros, so that every bin draws them up; a change of the bin is
// what turns the sign.
NNC_TARGET_AVX512 void try_avx512(PairLanes& lanes, const std::uint64_t* a_words, const std::uint64_t* b_words,
                                  std::size_t count, const CostTable& costs) {
  const __m512i none = _mm512_setzero_si512(), steps = _mm512_load_si512(kWide.step);
  const __m512i scale = _mm512_load_si512(kWide.scale), shifts = _mm512_load_si512(lanes.shift);
  const int* const table = reinterpret_cast<const int*>(&costs) + offsetof(CostTable, bit) / sizeof(int) + 1024 + 512;
  __m512i x = _mm512_load_si512(lanes.estimator), total = none;
  unsigned before = 3;
  for (std::size_t w = 0; w < count; ++w) {
    std::uint64_t of_a = a_words[w], of_b = b_words[w];
    for (unsigned i = 0; i < 64; ++i, of_a >>= 1, of_b >>= 1) {
      const unsigned bins = (of_a & 1u) | (of_b & 1u) << 1;
      x = _mm512_mask_sub_epi16(x, kPair.half[bins ^ before], none, x);
      before = bins;
      const __m256i q = _mm256_add_epi16(_mm256_slli_epi16(_mm512_castsi512_si256(x), 4), _mm512_extracti64x4_epi64(x, 1));
      const __m256i place = _mm256_srai_epi16(_mm256_add_epi16(q, load(kPair.place[bins])), 3);
      total = _mm512_add_epi32(total, _mm512_i32gather_epi32(_mm512_cvtepi16_epi32(place), table, 4));
      const __m512i step = _mm512_permutexvar_epi16(_mm512_srav_epi16(x, scale), steps);
      x = _mm512_add_epi16(x, _mm512_srlv_epi16(step, shifts));
    }
  }
  x = _mm512_mask_sub_epi16(x, kPair.half[before ^ 3], none, x);
  _mm512_store_si512(lanes.estimator, x);
  _mm512_store_si512(lanes.cost, total);
}
#endif

}  // namespace

void try_words_of_two(const TrialSide& a, const TrialSide& b, std::size_t count) {
#ifdef NNC_AVX2
  if (has_avx2()) {
    PairLanes lanes(a, b);
    (has_avx512() ? try_avx512 : try_avx2)(lanes, a.words, b.words, count, cost_table());
    lanes.hand_back(a, 0);
    lanes.hand_back(b, Fold::kLanes);
    return;
  }
#endif
  for (const TrialSide* side : {&a, &b})
    for (std::size_t w = 0; w < count; ++w) try_bins(side->lanes, side->words[w], 64, side->sum);
}

}  // namespace nnc
