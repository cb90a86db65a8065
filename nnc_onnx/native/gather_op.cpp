#include "gather_op.h"

#include <cstdio>
#include <cstring>

#include "gather_kernel.h"
#include "op_callbacks.h"
#include "single_tensor.h"

namespace nnc {
namespace {

constexpr char kDecode[] = "NNRDecode";

ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const GatherOp& op, GatherKernel** out) {
  return GatherKernel::create(api, info, *op.type, *op.config, out);
}

}  // namespace

GatherOp make_gather_op(const OpType& type, const SessionConfig& config, std::uint32_t version) {
  GatherOp op{};
  op.type = &type;
  op.config = &config;
  std::snprintf(op.name, sizeof op.name, "NNRGather%s", type.name + std::strlen(kDecode));
  ort::CustomOp& base = op.base;
  set_callbacks<GatherOp, GatherKernel, create>(&base, version);
  base.get_name = [](const ort::CustomOp* op) -> const char* { return op_of<GatherOp>(op).name; };
  base.get_input_count = [](const ort::CustomOp*) -> std::size_t { return 2; };
  base.get_input_type = [](const ort::CustomOp*, std::size_t index) {
    return index == 0 ? ort::kUInt8 : ort::kUndefined;
  };
  return op;
}

}  // namespace nnc

std::uint64_t onnx_nnc_block_rows(const std::uint8_t* payload, std::size_t size) {
  nnc::SingleTensor tensor;
  return tensor.open(payload, size, nnc::Limits{}).ok() ? tensor.block_rows() : 0;
}
