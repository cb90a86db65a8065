#include "quantizer.h"

#include <cmath>

namespace nnc {

float step_size(std::int32_t qp, unsigned qp_density) {
  const std::int32_t k = 1 << qp_density;
  const std::int32_t mul = k + (qp & (k - 1));
  const std::int32_t shift = (qp >> qp_density) - static_cast<std::int32_t>(qp_density);
  return static_cast<float>(std::ldexp(static_cast<double>(mul), shift));
}

Status quantize_uniform(const float* weights, std::size_t count, float step, std::int32_t* out) {
  const float scale = 1.0f / step;
  bool fits = true;
  for (std::size_t i = 0; i < count; ++i) {
    const float x = scale * weights[i];
    // False for NaN, too.
    const bool inside = x >= -2147483648.0f && x < 2147483648.0f;
    fits &= inside;
    const float safe = inside ? x : 0.0f;
    const std::int32_t whole = static_cast<std::int32_t>(safe);
    const float rest = safe - static_cast<float>(whole);
    out[i] = whole + (rest >= 0.5f) - (rest <= -0.5f);
  }
  if (!fits) return {Code::invalid_argument, "a quantized weight does not fit 32 bits", 0};
  return {};
}

}  // namespace nnc
