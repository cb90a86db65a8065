// What levels cost in the coder, for quantizers that weigh bits against error.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "contexts.h"

namespace nnc {

// Costs in units of the squared step: lambda times bits. Neighbours as in neighbour_class(), states 0 to 7.
struct RateTables {
  static constexpr std::uint32_t kMagnitudes = 64;
  alignas(32) float zero[3][8];             // significance 0, by neighbour and state
  alignas(32) float some[2][3][8];          // significance 1 and the sign, by sign, neighbour and state
  float magnitude[2][kMagnitudes];          // greater-than flags and remainder, by sign and magnitude
  float doubling;                           // each doubling beyond the table

  float of(std::uint32_t negative, std::uint32_t level) const {
    if (__builtin_expect(level < kMagnitudes, 1)) return magnitude[negative][level];
    const int octaves = 26 - __builtin_clz(level);  // the table ends below 2^6
    return magnitude[negative][kMagnitudes - 1] + doubling * static_cast<float>(octaves);
  }
};

// The coder's models, moved by the levels chosen so far.
class RateModel {
 public:
  // `sets`: parameter set per model index.
  RateModel(std::uint32_t unary_length, const std::vector<std::uint8_t>& sets, float lambda);
  // Sets the neighbour class of the next level, where levels before it were left out.
  void enter(std::uint32_t neighbour) { neighbour_ = neighbour; }
  // One level in coding order, coded in `state`.
  void code(std::int32_t level, std::uint32_t state);
  // Rates of the next levels.
  void tabulate(RateTables& tables) const;

 private:
  ContextLayout layout_;
  std::uint32_t unary_;
  float scale_;  // lambda * 2^-15
  std::vector<Model> models_;
  std::uint32_t neighbour_ = 0;
};

// Parameter sets that suit the start of a tensor when only the error counts, per model index. `weights` are in coding
// order, `count` of them, and no more than kParameterSample matter; of `coding` only what does not depend on the shape.
inline constexpr std::size_t kParameterSample = std::size_t{1} << 16;
std::vector<std::uint8_t> likely_parameter_sets(const float* weights, std::size_t count, const TensorCoding& coding,
                                                float step);

}  // namespace nnc
