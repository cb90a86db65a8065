// The operators NNRGather<Type> as onnxruntime sees them: rows of a coded table, as Gather along axis 0 gives them.
//
// They are not part of the carriage: a loader puts one in the place of a decode node and the Gather behind it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "op_types.h"
#include "ort_abi.h"
#include "session_config.h"

namespace nnc {

// What onnxruntime sees is the base; it must come first and be standard layout.
struct GatherOp {
  ort::CustomOp base;
  const OpType* type;
  const SessionConfig* config;
  char name[32];
};

// `version` is that of OrtCustomOp which the runtime reads. Inputs: payload uint8[n]; indices, int32 or int64 of any
// shape. Attributes: shape and crc32, as for the decode operators.
GatherOp make_gather_op(const OpType& type, const SessionConfig& config, std::uint32_t version);

}  // namespace nnc

// Parts of a payload that can be decoded alone; 0 if its headers cannot be read.
NNC_EXPORT std::uint64_t onnx_nnc_block_rows(const std::uint8_t* payload, std::size_t size);
