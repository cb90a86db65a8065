#include "group_op.h"

#include "group_kernel.h"
#include "op_callbacks.h"

namespace nnc {
namespace {

ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const GroupOp& op, GroupKernel** out) {
  return GroupKernel::create(api, info, *op.type, out);
}

}  // namespace

GroupOp make_group_op(const OpType& type, std::uint32_t version) {
  GroupOp op{};
  op.type = &type;
  ort::CustomOp& base = op.base;
  set_callbacks<GroupOp, GroupKernel, create>(&base, version);
  base.get_name = [](const ort::CustomOp* op) { return op_of<GroupOp>(op).type->group_name; };
  base.get_input_count = [](const ort::CustomOp*) -> std::size_t { return 1; };
  base.get_input_type = [](const ort::CustomOp*, std::size_t) { return ort::kUInt8; };
  // One output in the schema stands for all: as many as the node has, of one type.
  base.get_output_characteristic = [](const ort::CustomOp*, std::size_t) { return ort::kVariadic; };
  base.get_variadic_output_min_arity = [](const ort::CustomOp*) { return 1; };
  base.get_variadic_output_homogeneity = [](const ort::CustomOp*) { return 1; };
  return op;
}

}  // namespace nnc
