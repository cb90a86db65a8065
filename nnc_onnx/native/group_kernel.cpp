#include "group_kernel.h"

#include <chrono>
#include <cstring>
#include <memory>

#include "checksum.h"
#include "data_units.h"
#include "message.h"
#include "stats.h"

namespace nnc {
namespace {

// Decoded elements per payload byte, as for single tensors.
constexpr std::uint64_t kMaxExpansion = std::uint64_t{1} << 24;

}  // namespace

GroupKernel::GroupKernel(const ort::Api* api, const OpType& type) : api_(api), type_(type) { ++stats().kernels; }

GroupKernel::~GroupKernel() { --stats().kernels; }

ort::Status* GroupKernel::create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                                 GroupKernel** out) {
  std::unique_ptr<GroupKernel> kernel(new GroupKernel(api, type));
  if (ort::Status* status = kernel->read(info)) return status;
  *out = kernel.release();
  return nullptr;
}

std::string GroupKernel::where() const {
  return first_.empty() ? std::string(type_.group_name) : "group of tensor '" + first_ + "'";
}

ort::Status* GroupKernel::read(const ort::KernelInfo* info) {
  first_ = ort::output_name(api_, info);
  std::vector<std::int64_t> packed;
  if (ort::Status* status = ort::read_attribute(api_, info, "shapes", &packed)) return status;
  if (ort::Status* status = read_shapes(packed)) return status;
  std::int64_t crc = 0;
  if (ort::Status* status = ort::read_attribute(api_, info, "crc32", &crc)) return status;
  if (crc < 0 || crc > 0xFFFFFFFFLL) return fail(api_, kCodeMismatch, where(), "attribute crc32 is outside 0..4294967295");
  crc32_ = static_cast<std::uint32_t>(crc);
  int is_constant = 0;
  const ort::Value* value = nullptr;
  if (ort::succeeded(api_, ort::GetConstantInput::call(api_, info, 0, &is_constant, &value)) && is_constant != 0 &&
      value != nullptr)
    return ort::view_tensor(api_, value, &constant_payload_);
  return nullptr;
}

// A vector is its size, any other tensor minus its rank and then its dimensions.
ort::Status* GroupKernel::read_shapes(const std::vector<std::int64_t>& packed) {
  const Limits limits;
  std::uint64_t total = 0;
  for (std::size_t at = 0; at < packed.size();) {
    std::size_t rank = 1;
    if (packed[at] < 0) {
      if (packed[at] < -static_cast<std::int64_t>(limits.max_dims))
        return fail(api_, kCodeMismatch, where(), "attribute shapes has a tensor of too many dimensions");
      rank = static_cast<std::size_t>(-packed[at++]);
    }
    if (rank > packed.size() - at) return fail(api_, kCodeMismatch, where(), "attribute shapes ends early");
    Member member;
    member.elements = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      const std::int64_t dim = packed[at + i];
      if (dim < 0 || (dim > 0 && member.elements > limits.max_elements / static_cast<std::uint64_t>(dim)))
        return fail(api_, kCodeMismatch, where(), "attribute shapes is not usable");
      member.elements *= static_cast<std::uint64_t>(dim);
      member.shape.push_back(dim);
    }
    total += member.elements;
    if (total > limits.max_elements) return fail(api_, kCodeMismatch, where(), "attribute shapes is not usable");
    member.offset = bytes_;
    bytes_ += static_cast<std::size_t>(member.elements * type_.bytes);
    members_.push_back(std::move(member));
    at += rank;
  }
  return nullptr;
}

ort::Status* GroupKernel::decode(const ort::TensorView& payload, std::vector<std::uint8_t>* values) const {
  const auto start = std::chrono::steady_clock::now();
  if (crc32(payload.data, payload.elements) != crc32_)
    return fail(api_, kCodeMismatch, where(),
                "the CRC-32 of the payload is not what the model says; the model file is damaged");
  DataUnits found;
  if (const Status status = find_data_units(payload.data, payload.elements, Limits{}, &found); !status.ok())
    return fail(api_, where(), status);
  if (found.units.size() < members_.size())
    return fail(api_, kCodeMismatch, where(),
                "the payload has " + std::to_string(found.units.size()) + " data units, attribute shapes " +
                    std::to_string(members_.size()) + " tensors");
  if (bytes_ / type_.bytes / kMaxExpansion > payload.elements)
    return fail(api_, "NNC-E105", where(), std::to_string(bytes_) + " bytes from " + std::to_string(payload.elements));
  // Every size is checked before anything of that size is allocated.
  std::vector<std::uint8_t> single(payload.data, payload.data + found.head_size);
  const auto unit = [&](std::size_t index) {
    const ByteRange range = found.units[index];
    single.resize(found.head_size);
    single.insert(single.end(), payload.data + range.offset, payload.data + range.offset + range.size);
  };
  for (std::size_t i = 0; i < members_.size(); ++i) {
    unit(i);
    SingleInfo info;
    if (const Status status = inspect_single(single.data(), single.size(), Limits{}, &info); !status.ok())
      return fail(api_, where(), status);
    bool same = info.dims_count == members_[i].shape.size();
    for (std::size_t d = 0; same && d < info.dims_count; ++d)
      same = info.dims[d] == static_cast<std::uint64_t>(members_[i].shape[d]);
    if (!same)
      return fail(api_, kCodeMismatch, where(), "data unit " + std::to_string(i) + " is not of the shape in shapes");
  }
  values->resize(bytes_);
  for (std::size_t i = 0; i < members_.size(); ++i) {
    unit(i);
    const Status status = decode_single(single.data(), single.size(), Limits{}, type_.dtype,
                                        values->data() + members_[i].offset, members_[i].elements);
    if (!status.ok()) return fail(api_, where(), status);
  }
  Stats& counters = stats();
  counters.decode_ns += static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count());
  counters.decodes += members_.size();
  counters.decoded_bytes += bytes_;
  counters.payload_bytes += payload.elements;
  return nullptr;
}

ort::Status* GroupKernel::hand_out(ort::KernelContext* context, const std::vector<std::uint8_t>& values) const {
  std::size_t outputs = 0;
  if (ort::Status* status = ort::GetOutputCount::call(api_, context, &outputs)) return status;
  if (outputs > members_.size())
    return fail(api_, kCodeMismatch, where(),
                std::to_string(outputs) + " outputs, but attribute shapes has " + std::to_string(members_.size()));
  for (std::size_t i = 0; i < outputs; ++i) {
    const Member& member = members_[i];
    ort::Value* value = nullptr;
    if (ort::Status* status =
            ort::GetOutput::call(api_, context, i, member.shape.data(), member.shape.size(), &value))
      return status;
    if (value == nullptr || member.elements == 0) continue;  // a tool has removed an output that nothing reads
    void* out = nullptr;
    if (ort::Status* status = ort::GetTensorMutableData::call(api_, value, &out)) return status;
    std::memcpy(out, values.data() + member.offset, static_cast<std::size_t>(member.elements * type_.bytes));
  }
  return nullptr;
}

ort::Status* GroupKernel::compute(ort::KernelContext* context) {
  ++stats().computes;
  const ort::Value* value = nullptr;
  ort::TensorView payload;
  if (ort::Status* status = ort::GetInput::call(api_, context, 0, &value)) return status;
  if (value == nullptr) return fail(api_, kCodeMismatch, where(), "the payload input is missing");
  if (ort::Status* status = ort::view_tensor(api_, value, &payload)) return status;
  ort::Status* status = nullptr;
  if (payload.data != nullptr && payload.data == constant_payload_.data) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!decoded_) {
        status = decode(payload, &values_);
        decoded_ = status == nullptr;
      }
    }
    if (status == nullptr) status = hand_out(context, values_);
  } else {
    std::vector<std::uint8_t> values;
    status = decode(payload, &values);
    if (status == nullptr) status = hand_out(context, values);
  }
  if (status != nullptr) ++stats().failures;
  return status;
}

}  // namespace nnc
