#include "rate_model.h"

#include <algorithm>

#include "binarization.h"
#include "cost.h"
#include "parameter_search.h"
#include "quantizer.h"

namespace nnc {

namespace {

std::uint32_t cost_of(const CostTable& costs, const Model& m, unsigned bit) {
  return costs.bit[bit][static_cast<std::size_t>((m.q >> 3) + 512)];
}

// Emit of emit_magnitude(): moves the models.
struct Mover {
  Model* models;
  void bin(std::uint32_t model, bool bit) { models[model].update(bit); }
  void bypass(std::uint32_t, unsigned) {}
};

}  // namespace

RateModel::RateModel(std::uint32_t unary_length, const std::vector<std::uint8_t>& sets, float lambda)
    : layout_(unary_length), unary_(unary_length), scale_(lambda / 32768.0f), models_(layout_.count) {
  for (std::uint32_t i = 0; i < layout_.count; ++i) models_[i].load(i < sets.size() ? sets[i] : 0);
}

void RateModel::code(std::int32_t level, std::uint32_t state) {
  models_[layout_.sig + 3 * state + neighbour_].update(level != 0);
  if (level) {
    const bool negative = level < 0;
    models_[layout_.sign + neighbour_].update(negative);
    Mover mover{models_.data()};
    emit_magnitude(mover, layout_, nullptr, magnitude_of(level), negative, unary_, ~std::uint64_t{0});
  }
  neighbour_ = neighbour_class(level);
}

void RateModel::tabulate(RateTables& t) const {
  const CostTable& costs = cost_table();
  const auto rate = [this](std::uint32_t cost) { return scale_ * static_cast<float>(cost); };
  for (std::uint32_t nb = 0; nb < 3; ++nb)
    for (std::uint32_t s = 0; s < 8; ++s) {
      const Model& sig = models_[layout_.sig + 3 * s + nb];
      t.zero[nb][s] = rate(cost_of(costs, sig, 0));
      for (std::uint32_t negative = 0; negative < 2; ++negative)
        t.some[negative][nb][s] = rate(cost_of(costs, sig, 1) + cost_of(costs, models_[layout_.sign + nb], negative));
    }
  t.doubling = rate(2 * kBypassCost);
  for (std::uint32_t negative = 0; negative < 2; ++negative) {
    // Flag by flag while there are flags; the few magnitudes with a remainder one by one.
    std::uint32_t passed = 0;
    t.magnitude[negative][0] = 0;
    std::uint32_t m = 1;
    for (; m <= unary_ && m < RateTables::kMagnitudes; ++m) {
      const Model& greater = models_[layout_.gt + 2 * (m - 1) + negative];
      t.magnitude[negative][m] = rate(passed + cost_of(costs, greater, 0));
      passed += cost_of(costs, greater, 1);
    }
    const std::uint32_t base = m;
    std::uint32_t prefix = passed;
    for (std::uint32_t k = 0; k < 31 && m < RateTables::kMagnitudes; ++k) {
      const std::uint32_t cost = prefix + cost_of(costs, models_[layout_.esc + k], 0) + k * kBypassCost;
      const std::uint32_t end = std::min(RateTables::kMagnitudes, base + (2u << k) - 1);
      for (; m < end; ++m) t.magnitude[negative][m] = rate(cost);
      prefix += cost_of(costs, models_[layout_.esc + k], 1);
    }
  }
}

std::vector<std::uint8_t> likely_parameter_sets(const float* w, std::size_t count, const TensorCoding& coding,
                                                float step) {
  TensorCoding sample = coding;
  sample.rows = 1;
  sample.cols = std::min(count, kParameterSample);
  sample.codebook_size = 0;
  sample.reference = nullptr;
  sample.history = nullptr;
  std::vector<std::int32_t> integers(static_cast<std::size_t>(sample.cols));
  const Status status = sample.dq ? quantize_trellis(w, sample, step, integers.data())
                                  : quantize_uniform(w, integers.size(), step, integers.data());
  const ContextLayout layout(coding.unary_length);
  if (!status.ok()) return std::vector<std::uint8_t>(layout.count, 0);
  return search_parameter_sets(sample, layout, integers.data(), nullptr, false);
}

}  // namespace nnc
