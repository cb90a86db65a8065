// The decode operators: one per element type, because onnxruntime picks by name and an output type must be fixed.
#pragma once
#include <cstddef>

#include "ort_abi.h"
#include "single.h"

namespace nnc {

constexpr const char* kDomain = "onnx_nnc";

struct OpType {
  const char* name;
  const char* group_name;
  ort::ElementType element;
  DType dtype;
  std::size_t bytes;
};

constexpr OpType kOpTypes[] = {
    {"NNRDecodeFloat", "NNRDecodeGroupFloat", ort::kFloat, DType::float32, 4},
    {"NNRDecodeDouble", "NNRDecodeGroupDouble", ort::kDouble, DType::float64, 8},
    {"NNRDecodeFloat16", "NNRDecodeGroupFloat16", ort::kFloat16, DType::float16, 2},
    {"NNRDecodeBFloat16", "NNRDecodeGroupBFloat16", ort::kBFloat16, DType::bfloat16, 2},
    {"NNRDecodeInt8", "NNRDecodeGroupInt8", ort::kInt8, DType::int8, 1},
    {"NNRDecodeUInt8", "NNRDecodeGroupUInt8", ort::kUInt8, DType::uint8, 1},
    {"NNRDecodeInt16", "NNRDecodeGroupInt16", ort::kInt16, DType::int16, 2},
    {"NNRDecodeUInt16", "NNRDecodeGroupUInt16", ort::kUInt16, DType::uint16, 2},
    {"NNRDecodeInt32", "NNRDecodeGroupInt32", ort::kInt32, DType::int32, 4},
    {"NNRDecodeUInt32", "NNRDecodeGroupUInt32", ort::kUInt32, DType::uint32, 4},
    {"NNRDecodeInt64", "NNRDecodeGroupInt64", ort::kInt64, DType::int64, 8},
    {"NNRDecodeUInt64", "NNRDecodeGroupUInt64", ort::kUInt64, DType::uint64, 8},
};

}  // namespace nnc
