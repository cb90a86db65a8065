#include "cpu.h"

#include <atomic>

namespace nnc {

namespace {
std::atomic<bool> portable_only{false};
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

void use_portable_kernels(bool portable) { portable_only = portable; }

}  // namespace nnc
