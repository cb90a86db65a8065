#include "cpu.h"

#include <atomic>

namespace nnc {

namespace {
std::atomic<bool> portable_only{false};
std::atomic<bool> avx512_allowed{true};
}

bool has_avx2() {
#ifdef NNC_AVX2
  static const bool available = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                                __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt");
  return available && !portable_only;
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef NNC_AVX2
  static const bool available = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return available && avx512_allowed && has_avx2();
#else
  return false;
#endif
}

void use_portable_kernels(bool portable) { portable_only = portable; }
void use_avx512_kernels(bool use) { avx512_allowed = use; }

}  // namespace nnc
