#include "gather_op.h"

#include <cstdio>
#include <cstring>

#include "gather_kernel.h"
#include "guarded.h"
#include "single_tensor.h"

namespace nnc {
namespace {

constexpr char kDecode[] = "NNRDecode";

const GatherOp& self(const ort::CustomOp* op) { return *reinterpret_cast<const GatherOp*>(op); }

ort::Status* NNC_ORT_CALL create_kernel(const ort::CustomOp* op, const ort::Api* api, const ort::KernelInfo* info,
                                        void** out) {
  return guarded(api, [&]() -> ort::Status* {
    GatherKernel* kernel = nullptr;
    ort::Status* status = GatherKernel::create(api, info, *self(op).type, *self(op).config, &kernel);
    *out = kernel;
    return status;
  });
}

ort::Status* NNC_ORT_CALL compute(void* handle, ort::KernelContext* context) {
  auto* kernel = static_cast<GatherKernel*>(handle);
  return guarded(kernel->api(), [&] { return kernel->compute(context); });
}

void NNC_ORT_CALL destroy_kernel(void* handle) { delete static_cast<GatherKernel*>(handle); }

}  // namespace

GatherOp make_gather_op(const OpType& type, const SessionConfig& config, std::uint32_t version) {
  GatherOp op{};
  op.type = &type;
  op.config = &config;
  std::snprintf(op.name, sizeof op.name, "NNRGather%s", type.name + std::strlen(kDecode));
  ort::CustomOp& base = op.base;
  base.version = version;
  base.get_name = [](const ort::CustomOp* op) -> const char* { return self(op).name; };
  base.get_execution_provider = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  base.get_input_count = [](const ort::CustomOp*) -> std::size_t { return 2; };
  base.get_input_type = [](const ort::CustomOp*, std::size_t index) {
    return index == 0 ? ort::kUInt8 : ort::kUndefined;
  };
  base.get_input_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kRequired; };
  base.get_input_memory_type = [](const ort::CustomOp*, std::size_t) { return ort::kMemTypeDefault; };
  base.get_output_count = [](const ort::CustomOp*) -> std::size_t { return 1; };
  base.get_output_type = [](const ort::CustomOp* op, std::size_t) { return self(op).type->element; };
  base.get_output_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kRequired; };
  base.get_variadic_input_min_arity = [](const ort::CustomOp*) { return 0; };
  base.get_variadic_input_homogeneity = [](const ort::CustomOp*) { return 0; };
  base.get_variadic_output_min_arity = [](const ort::CustomOp*) { return 0; };
  base.get_variadic_output_homogeneity = [](const ort::CustomOp*) { return 0; };
  base.create_kernel_v2 = create_kernel;
  base.kernel_compute_v2 = compute;
  base.kernel_destroy = destroy_kernel;
  base.get_start_version = [](const ort::CustomOp*) { return 1; };
  base.get_end_version = [](const ort::CustomOp*) { return 1; };
  return op;
}

}  // namespace nnc

std::uint64_t onnx_nnc_block_rows(const std::uint8_t* payload, std::size_t size) {
  nnc::SingleTensor tensor;
  return tensor.open(payload, size, nnc::Limits{}).ok() ? tensor.block_rows() : 0;
}
