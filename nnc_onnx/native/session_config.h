// What a session asks of its decode operators, read from the session options they are registered with.
#pragma once
#include <cstddef>

#include "ort_api.h"

namespace nnc {

struct SessionConfig {
  std::size_t cache_bytes = 0;  // "onnx_nnc.cache_bytes": budget of the cache; 0 keeps nothing between uses
  std::size_t ahead = 0;        // "onnx_nnc.ahead": tensors to decode ahead in parallel when one is missing
  std::size_t threads = 1;      // "onnx_nnc.threads": how many of onnxruntime's threads may decode one tensor
  bool levels = false;          // "onnx_nnc.cache_levels": hold levels where the budget is too small for values
  // "onnx_nnc.lend": hand tensors out without a copy where onnx_nnc_share allows. Only for sessions without memory
  // patterns and memory reuse, which would write activations into lent tensors.
  bool lend = false;

  bool recode = false;  // "onnx_nnc.recode": read a payload once and go on from its recoded form

  bool operator==(const SessionConfig& other) const {
    return cache_bytes == other.cache_bytes && ahead == other.ahead && threads == other.threads &&
           levels == other.levels && lend == other.lend && recode == other.recode;
  }
};

SessionConfig read_session_config(const ort::Api* api, const ort::SessionOptions* options);

}  // namespace nnc
