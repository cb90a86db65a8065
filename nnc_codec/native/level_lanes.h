// Levels to bins where few of them are zero: all greater-than flags of a level at once.
//
// The flags of a level belong to as many models, one lane each, so that their estimators take one step together; likewise
// those of the prefix of a remainder. What comes out is the place of every bin among the stripes of RangeSteps.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "binarization.h"
#include "contexts.h"
#include "cpu.h"
#include "encoder_model.h"
#include "estimator_lanes.h"

#ifdef NNC_AVX2
namespace nnc {

// By the number of flags, all but the last of them ones. A row more than there are models stands for a magnitude that has
// a remainder: its flags are ones.
struct FlagRows {
  static constexpr std::size_t kRows = 18;
  alignas(32) std::int16_t direction[kRows][16];
  alignas(16) std::uint8_t place[kRows][16];  // of q = 0
};
constexpr FlagRows make_flag_rows() {
  FlagRows t{};
  for (std::size_t flags = 0; flags < FlagRows::kRows; ++flags)
    for (std::size_t j = 0; j < 16; ++j) {
      const bool one = j + 1 < flags;
      t.direction[flags][j] = one ? 1 : j < flags ? -1 : 0;
      t.place[flags][j] = one ? 96 : 32;
    }
  return t;
}
inline constexpr FlagRows kFlagRows = make_flag_rows();

class LevelLanes {
 public:
  static constexpr std::uint32_t kLongest = 16;   // unary length
  static constexpr std::uint32_t kSuffix = 8;     // bits of a remainder's suffix
  static constexpr std::size_t kMostBins = 2 + kLongest + kSuffix + 1 + kSuffix;
  static constexpr std::size_t kSlack = 32;       // bytes written beyond the last bin

  LevelLanes(const ContextLayout& layout, std::uint32_t unary, std::uint32_t fixed) : c_(layout), unary_(unary), fixed_(fixed) {}

  // Of some integers.
  struct Reach {
    std::uint32_t most = 0;   // magnitude
    std::uint32_t far = 0;    // those above twice the unary length, about half of those with a remainder
    std::uint32_t some = 0;   // those that are not zero
    std::uint32_t total = 0;  // magnitudes, each no more than twice the unary length
  };
  NNC_TARGET_AVX2 Reach reach(const std::int32_t* values, unsigned count) const {
    Reach r;
    const std::uint32_t least = 2 * unary_;
    for (unsigned i = 0; i < count; ++i) {
      const std::uint32_t sign = static_cast<std::uint32_t>(values[i] >> 31);
      const std::uint32_t magnitude = (static_cast<std::uint32_t>(values[i]) ^ sign) - sign;
      r.most = std::max(r.most, magnitude);
      r.far += magnitude > least;
      r.some += magnitude != 0;
      r.total += std::min(magnitude, least);
    }
    return r;
  }
  // Whether `count` integers have bins enough, about three each, that a step for each is better than a step for each bin.
  // Lanes are kept for a little less than what it takes to begin.
  template <bool DQ>
  bool worth(const Reach& r, unsigned count) const {
    const std::uint32_t more = r.some + (DQ ? r.total / 2 : r.total);  // bins besides the first
    return 4 * more >= (holding_ ? 7u : 8u) * count;
  }
  // Whether take() knows integers of these magnitudes, which are those of levels or up to twice as large.
  template <bool DQ>
  bool knows(std::uint32_t most) const {
    return (DQ ? most / 2 + 1 : most) < unary_ + (2u << kSuffix);
  }
  // Whether the estimators are here and not among the models.
  bool holding() const { return holding_; }
  void hold(const EncoderModel* models) {
    holding_ = true;
    each([&](std::size_t set, std::size_t lane, std::uint32_t model) {
      const EncoderModel& m = models[model];
      const ParameterSet& p = kParameterSet[m.parameter_set()];
      f_[set][lane] = static_cast<std::int16_t>(m.fast / 16);
      s_[set][lane] = static_cast<std::int16_t>(m.slow);
      fast_[set][lane] = scale_of(p.fast_shift);
      slow_[set][lane] = scale_of(p.slow_shift);
    });
  }
  void hand_back(EncoderModel* models) {
    holding_ = false;
    each([&](std::size_t set, std::size_t lane, std::uint32_t model) {
      models[model].fast = 16 * f_[set][lane];
      models[model].slow = s_[set][lane];
    });
  }

  // Lists the bins of `count` integers that it knows; returns the end of the list. `FarOften`: many of them have a
  // remainder, so that all are treated as if they had.
  template <bool DQ, bool FarOften>
  NNC_TARGET_AVX2 NNC_INLINE std::uint8_t* take(const std::int32_t* values, unsigned count, EncoderModel* models,
                                                std::uint32_t& state, std::uint32_t& neighbour, std::uint8_t* out) {
    std::uint32_t in = state, before = neighbour;
    for (unsigned i = 0; i < count; ++i) {
      const std::int32_t level = DQ ? level_of(values[i], in) : values[i];
      const std::uint32_t negative = static_cast<std::uint32_t>(level) >> 31;
      const std::uint32_t magnitude = (static_cast<std::uint32_t>(level) ^ (0u - negative)) + negative;
      const std::uint32_t some = magnitude != 0;
      out[0] = static_cast<std::uint8_t>(models[c_.sig + 3 * in + before].move(some));
      // The model of a sign that is not coded must not move.
      const std::uint32_t sign = fixed_ ^ ((fixed_ ^ (c_.sign + before)) & (0u - some));
      out[1] = static_cast<std::uint8_t>(models[sign].move(negative));
      out += 1 + some;
      before = some << (1 - negative);
      if (DQ) in = kNextState[in][level & 1];
      flags(negative, std::min(magnitude, unary_ + 1), out);
      out += std::min(magnitude, unary_);
      if (!FarOften && __builtin_expect(magnitude <= unary_, 1)) continue;
      const std::uint32_t beyond = std::max(magnitude, unary_) - unary_;
      const unsigned bits = 32u - static_cast<unsigned>(_lzcnt_u32(beyond));  // of the number after the remainder
      flags(kPrefix, bits, out);
      out += bits;
      const std::uint64_t suffix = __builtin_bswap64(_pdep_u64(beyond << (kSuffix + 1 - bits), kOnes)) | kEquiprobable;
      std::memcpy(out, &suffix, sizeof suffix);
      out += bits - (bits != 0);
    }
    state = in;
    neighbour = before;
    return out;
  }

 private:
  static constexpr std::size_t kSets = 3;  // flags of positive levels, of negative ones, prefixes
  static constexpr std::size_t kPrefix = 2;
  static constexpr std::uint64_t kOnes = 0x4040404040404040u;           // a one, in every byte
  static constexpr std::uint64_t kEquiprobable = 0x3f3f3f3f3f3f3f3fu;

  template <class Visit>
  void each(Visit&& visit) const {
    for (std::uint32_t j = 0; j < unary_; ++j)
      for (std::uint32_t negative = 0; negative < 2; ++negative) visit(negative, j, c_.gt + 2 * j + negative);
    for (std::uint32_t k = 0; k <= kSuffix; ++k) visit(kPrefix, k, c_.esc + k);
  }
  // Moves the models of a set by some flags; writes the place of each.
  NNC_TARGET_AVX2 NNC_INLINE void flags(std::size_t set, std::size_t count, std::uint8_t* out) {
    EstimatorLanes lanes{load(f_[set]), load(s_[set])};
    const __m256i column = _mm256_srai_epi16(lanes.q(), 7);
    const __m128i columns = _mm_packs_epi16(_mm256_castsi256_si128(column), _mm256_extracti128_si256(column, 1));
    const __m128i base = _mm_load_si128(reinterpret_cast<const __m128i*>(kFlagRows.place[count]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_add_epi8(columns, base));
    lanes.step(load(kFlagRows.direction[count]), load(fast_[set]), load(slow_[set]));
    store(f_[set], lanes.f);
    store(s_[set], lanes.s);
  }

  ContextLayout c_;
  std::uint32_t unary_, fixed_;
  bool holding_ = false;
  alignas(32) std::int16_t f_[kSets][16] = {};
  alignas(32) std::int16_t s_[kSets][16] = {};
  alignas(32) std::uint16_t fast_[kSets][16] = {};
  alignas(32) std::uint16_t slow_[kSets][16] = {};
};

}  // namespace nnc
#endif
