// Steps of the arithmetic encoder's lower end, four in one.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "range_steps.h"

#ifdef NNC_AVX2
#include <immintrin.h>

namespace nnc {

// Sixteen steps as four: by how much each shifts the lower end (28 at most), and what it then adds (37 bits at most).
struct StepGroups {
  static constexpr std::size_t kSteps = 16;
  static constexpr std::size_t kPlace[4] = {0, 2, 1, 3};  // of the groups in order
  alignas(32) std::uint64_t shift[4];
  alignas(32) std::uint64_t added[4];

  NNC_TARGET_AVX2 NNC_INLINE void join(const RangeStep* steps) {
    const Two a = pairs(steps), b = pairs(steps + 8);
    const Two even{_mm256_unpacklo_epi64(a.shift, b.shift), _mm256_unpacklo_epi64(a.added, b.added)};
    const Two odd{_mm256_unpackhi_epi64(a.shift, b.shift), _mm256_unpackhi_epi64(a.added, b.added)};
    const Two both = after(even, odd);
    _mm256_store_si256(reinterpret_cast<__m256i*>(shift), both.shift);
    _mm256_store_si256(reinterpret_cast<__m256i*>(added), both.added);
  }

 private:
  struct Two {
    __m256i shift, added;
  };
  NNC_TARGET_AVX2 static NNC_INLINE Two after(const Two& first, const Two& second) {
    return {_mm256_add_epi64(first.shift, second.shift),
            _mm256_add_epi64(_mm256_sllv_epi64(first.added, second.shift), second.added)};
  }
  // Eight steps as four.
  NNC_TARGET_AVX2 static NNC_INLINE Two pairs(const RangeStep* steps) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(steps));
    const __m256i byte = _mm256_set1_epi64x(0xff), half = _mm256_set1_epi64x(0xffff);
    const Two first{_mm256_and_si256(_mm256_srli_epi64(both, 8), byte), _mm256_and_si256(_mm256_srli_epi64(both, 16), half)};
    const Two second{_mm256_and_si256(_mm256_srli_epi64(both, 40), byte), _mm256_srli_epi64(both, 48)};
    return after(first, second);
  }
};

}  // namespace nnc
#endif
