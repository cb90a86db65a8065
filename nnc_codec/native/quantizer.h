// Weights to integers. Results are those of the reference software, bit by bit.
#pragma once
#include <cstddef>
#include <cstdint>

#include "contexts.h"
#include "status.h"

namespace nnc {

// Step size of a QP as float32, before use in any reconstruction: (k + (QP & (k-1))) * 2^((QP >> d) - d), k = 2^d.
float step_size(std::int32_t qp, unsigned qp_density);

// Round half away from zero of float32(float32(1 / step) * w).
// invalid_argument if a weight is not finite or its integer would not fit.
Status quantize_uniform(const float* weights, std::size_t count, float step, std::int32_t* out);

// Dependent quantization: the path of least squared error through the 8-state trellis, in coding order.
// `out` receives multiples in raster order.
Status quantize_trellis(const float* weights, const TensorCoding& coding, float step, std::int32_t* out);

// Quantization, dependent if coding.dq is set, that minimises ((w - q * step) / step)^2 + lambda * bits: the bits are those
// that the coder will spend, as far as they are known in advance. `out` receives integers in raster order. With `keep_zeros`
// weights that are zero stay zero, which dependent quantization would else give up for the weights after them.
Status quantize_rate(const float* weights, const TensorCoding& coding, float step, float lambda, std::int32_t* out,
                     bool keep_zeros = false);

}  // namespace nnc
