// Which instruction sets the kernels may use here.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define NNC_AVX2 1  // kernels with an AVX2 variant are compiled, chosen at run time
#endif

// Hot functions compiled twice, the second time for the bit manipulation instructions that come with AVX2.
#if defined(__GNUC__) || defined(__clang__)
#define NNC_INLINE inline __attribute__((always_inline))
#else
#define NNC_INLINE inline
#endif
#ifdef NNC_AVX2
#define NNC_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))
#endif

namespace nnc {

// AVX2, BMI1, BMI2 and LZCNT: one generation of processors.
bool has_avx2();
// Makes has_avx2() false, so that portable and AVX2 kernels can be compared on one machine.
void use_portable_kernels(bool portable);

}  // namespace nnc
