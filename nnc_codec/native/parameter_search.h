// Choice of a parameter set for every model of a tensor: the cheapest of nine by trial.
#pragma once
#include <cstdint>
#include <vector>

#include "contexts.h"

namespace nnc {

// Returns a parameter set per model index. `skip` may be null.
std::vector<std::uint8_t> search_parameter_sets(const TensorCoding& coding, const ContextLayout& layout,
                                                const std::int32_t* values, const std::uint8_t* skip, bool hist_on);

}  // namespace nnc
