// Which instruction sets the kernels may use here.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define NNC_AVX2 1  // kernels with AVX2 and AVX-512 variants are compiled, chosen at run time
#endif

// Hot functions are compiled more than once, also for the bit manipulation instructions that come with AVX2.
#if defined(__GNUC__) || defined(__clang__)
#define NNC_INLINE inline __attribute__((always_inline))
#else
#define NNC_INLINE inline
#endif
#ifdef NNC_AVX2
#define NNC_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))
#define NNC_TARGET_AVX512 __attribute__((target("avx2,bmi,bmi2,lzcnt,avx512f,avx512bw,avx512dq,avx512vl")))
#endif

namespace nnc {

// AVX2, BMI1, BMI2 and LZCNT: one generation of processors.
bool has_avx2();
// The same and AVX-512 F, BW, DQ and VL.
bool has_avx512();
// Makes the functions above false, so that kernels can be compared on one machine.
void use_portable_kernels(bool portable);
void use_avx512_kernels(bool use);

}  // namespace nnc
