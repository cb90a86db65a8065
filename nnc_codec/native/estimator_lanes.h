// Steps of sixteen estimator pairs at a time, 16 bits each.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "tables.h"

#ifdef NNC_AVX2
#include <immintrin.h>

namespace nnc {

// kStep for estimators on the wrong side of a bin (below) and on its side (above), by the four low bits of the distance.
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
inline constexpr StepBytes kStepBytes = make_step_bytes();

NNC_TARGET_AVX2 NNC_INLINE __m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
NNC_TARGET_AVX2 NNC_INLINE void store(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }

// The upper half of the product with a step in a lane's upper byte is the step, shifted to the right.
constexpr std::uint16_t scale_of(unsigned shift) { return static_cast<std::uint16_t>(256 >> shift); }

struct EstimatorLanes {
  __m256i f, s;

  NNC_TARGET_AVX2 NNC_INLINE __m256i q() const { return _mm256_add_epi16(_mm256_slli_epi16(f, 4), s); }
  // `direction`: 1 in the lanes of a one, -1 for a zero, 0 where nothing moves. `fast`, `slow`: scale_of() their shifts.
  NNC_TARGET_AVX2 NNC_INLINE void step(__m256i direction, __m256i fast, __m256i slow) {
    const __m256i upper = _mm256_set1_epi16(static_cast<short>(0xff00));
    const __m256i to_below = _mm256_set1_epi8(static_cast<char>(0x80));
    // Distances from the middle in a byte each, the slow one above; a shuffle index with its top bit set yields zero.
    const __m256i near = _mm256_srli_epi16(_mm256_slli_epi16(_mm256_sign_epi16(f, direction), 5), 8);
    const __m256i far = _mm256_and_si256(_mm256_slli_epi16(_mm256_sign_epi16(s, direction), 1), upper);
    const __m256i t = _mm256_or_si256(near, far);
    const __m256i steps = _mm256_or_si256(_mm256_shuffle_epi8(load(kStepBytes.below), _mm256_xor_si256(t, to_below)),
                                          _mm256_shuffle_epi8(load(kStepBytes.above), t));
    const __m256i df = _mm256_mulhi_epu16(_mm256_slli_epi16(steps, 8), fast);
    const __m256i ds = _mm256_mulhi_epu16(_mm256_and_si256(steps, upper), slow);
    f = _mm256_add_epi16(f, _mm256_sign_epi16(df, direction));
    s = _mm256_add_epi16(s, _mm256_sign_epi16(ds, direction));
  }
};

}  // namespace nnc
#endif
