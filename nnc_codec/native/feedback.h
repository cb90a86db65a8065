// Quantization with error feedback: the error of one weight is made up for by the weights that multiply related inputs.
#pragma once
#include <cstdint>

#include "status.h"

namespace nnc {

// The largest reduced dimension.
inline constexpr std::uint64_t kMostReduced = std::uint64_t{1} << 16;

// A matrix of weights and how errors in them add up. With e = (w - q) / step along the reduced dimension, the loss is
//   sum over j of importance[j] * (e[j] + sum over i < j of feedback[i][j] * e[i])^2,
// which is e^T H e for H = R R^T with R upper triangular, feedback[i][j] = R[i][j] / R[j][j], importance[j] = R[j][j]^2.
struct FeedbackProblem {
  const float* weights = nullptr;     // rows * cols in raster order, which is the order of coding
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  bool across = false;                // the reduced dimension is that of the rows; otherwise that of the columns
  std::uint64_t groups = 1;           // along columns only: as many H as groups, for rows / groups rows each
  const float* feedback = nullptr;    // groups * n * n; only i < j is read; n is the reduced dimension
  const float* importance = nullptr;  // groups * n
  bool keep_zeros = false;            // weights that are zero stay zero
  // For another look at what is quantized already: `weights` are its values, e the changes, feedback[i][j] = H[i][j] / H[j][j]
  // and importance[j] = H[j][j]; pull[j] is (H e')[j] / H[j][j] for the errors e' so far, in the unit of the weights.
  const float* pull = nullptr;        // rows * cols
};

// Minimises loss + lambda * bits, greedily along the reduced dimension. `dependent` follows the trellis of dependent
// quantization with decisions delayed by some weights, or to the end of a row across columns.
// `out` receives integers (multiples if `dependent`) in raster order.
Status quantize_feedback(const FeedbackProblem& problem, bool dependent, std::uint32_t unary_length, float step, float lambda,
                         std::int32_t* out);

}  // namespace nnc
