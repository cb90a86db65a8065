// The operators NNRDecodeGroup<Type> as onnxruntime sees them.
#pragma once
#include <cstdint>

#include "op_types.h"
#include "ort_abi.h"

namespace nnc {

// What onnxruntime sees is the base; it must come first and be standard layout.
struct GroupOp {
  ort::CustomOp base;
  const OpType* type;
};

// `version` is that of OrtCustomOp which the runtime reads.
GroupOp make_group_op(const OpType& type, std::uint32_t version);

}  // namespace nnc
