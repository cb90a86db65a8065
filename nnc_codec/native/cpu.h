// Which instruction sets the kernels may use here.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define NNC_AVX2 1  // kernels with an AVX2 variant are compiled, chosen at run time
#endif

namespace nnc {

bool has_avx2();
// Makes has_avx2() false, so that portable and AVX2 kernels can be compared on one machine.
void use_portable_kernels(bool portable);

}  // namespace nnc
