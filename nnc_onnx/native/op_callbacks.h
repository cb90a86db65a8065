// What onnxruntime asks of every operator of this library and all of them answer alike.
#pragma once
#include <cstddef>
#include <cstdint>

#include "guarded.h"
#include "ort_abi.h"

namespace nnc {

template <class Op>
const Op& op_of(const ort::CustomOp* op) {
  return *reinterpret_cast<const Op*>(op);
}

// Sets the callbacks of an operator with one output of the element type `Op::type` says. `create` makes its kernel, a
// `KernelClass` with api() and compute(). What is left to the caller: name, inputs.
template <class Op, class KernelClass,
          ort::Status* (*create)(const ort::Api*, const ort::KernelInfo*, const Op&, KernelClass**)>
void set_callbacks(ort::CustomOp* base, std::uint32_t version) {
  base->version = version;
  base->get_execution_provider = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  base->get_input_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kRequired; };
  base->get_input_memory_type = [](const ort::CustomOp*, std::size_t) { return ort::kMemTypeDefault; };
  base->get_output_count = [](const ort::CustomOp*) -> std::size_t { return 1; };
  base->get_output_type = [](const ort::CustomOp* op, std::size_t) { return op_of<Op>(op).type->element; };
  base->get_output_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kRequired; };
  base->get_variadic_input_min_arity = [](const ort::CustomOp*) { return 0; };
  base->get_variadic_input_homogeneity = [](const ort::CustomOp*) { return 0; };
  base->get_variadic_output_min_arity = [](const ort::CustomOp*) { return 0; };
  base->get_variadic_output_homogeneity = [](const ort::CustomOp*) { return 0; };
  base->create_kernel_v2 = [](const ort::CustomOp* op, const ort::Api* api, const ort::KernelInfo* info,
                              void** out) -> ort::Status* {
    return guarded(api, [&]() -> ort::Status* {
      KernelClass* kernel = nullptr;
      ort::Status* status = create(api, info, op_of<Op>(op), &kernel);
      *out = kernel;
      return status;
    });
  };
  base->kernel_compute_v2 = [](void* handle, ort::KernelContext* context) -> ort::Status* {
    auto* kernel = static_cast<KernelClass*>(handle);
    return guarded(kernel->api(), [&] { return kernel->compute(context); });
  };
  base->kernel_destroy = [](void* handle) { delete static_cast<KernelClass*>(handle); };
  base->get_start_version = [](const ort::CustomOp*) { return 1; };
  base->get_end_version = [](const ort::CustomOp*) { return 1; };
}

}  // namespace nnc
