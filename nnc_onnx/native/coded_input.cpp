#include "coded_input.h"

#include <cstdio>
#include <utility>

#include "checksum.h"
#include "message.h"

namespace nnc {
namespace {

// Decoded elements per payload byte: nnc_codec.Limits.max_expansion. A model that claims more is refused before
// its output is allocated.
constexpr std::uint64_t kMaxExpansion = std::uint64_t{1} << 24;

std::string hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", static_cast<unsigned>(value));
  return text;
}

template <class Int>
std::string shape_text(const Int* dims, std::size_t rank) {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

// False when a dimension is negative or the product is above `limit`.
bool count_elements(const std::vector<std::int64_t>& shape, std::uint64_t limit, std::uint64_t* out) {
  std::uint64_t product = 1;
  for (std::int64_t dim : shape)
    if (dim < 0) return false;
  for (std::int64_t dim : shape) {
    const auto size = static_cast<std::uint64_t>(dim);
    if (size != 0 && product > limit / size) return false;
    product *= size;
  }
  *out = product;
  return product <= limit;
}

}  // namespace

ort::Status* CodedInput::read(const ort::KernelInfo* info, std::string name) {
  name_ = std::move(name);
  if (ort::Status* status = ort::read_attribute(api_, info, "shape", &shape_)) return status;
  std::int64_t crc = 0;
  if (ort::Status* status = ort::read_attribute(api_, info, "crc32", &crc)) return status;
  if (crc < 0 || crc > 0xFFFFFFFFLL)
    return fail(api_, kCodeMismatch, where(), "attribute crc32 is outside 0..4294967295");
  crc32_ = static_cast<std::uint32_t>(crc);
  if (shape_.size() > Limits{}.max_dims || !count_elements(shape_, Limits{}.max_elements, &elements_))
    return fail(api_, kCodeMismatch, where(),
                "attribute shape = " + shape_text(shape_.data(), shape_.size()) + " is not usable");
  int is_constant = 0;
  const ort::Value* value = nullptr;
  if (ort::succeeded(api_, ort::GetConstantInput::call(api_, info, 0, &is_constant, &value)) && is_constant != 0 &&
      value != nullptr)
    return ort::view_tensor(api_, value, &constant_);
  return nullptr;
}

std::string CodedInput::where() const {
  return name_.empty() ? std::string("a tensor of ") + type_.name : "tensor '" + name_ + "'";
}

CacheSource CodedInput::source() const {
  CacheSource source;
  source.payload = constant_.data;
  source.payload_bytes = constant_.elements;
  source.crc32 = crc32_;
  source.element = type_.element;
  source.bytes = bytes();
  source.element_bytes = type_.bytes;
  source.rows = shape_.empty() ? 1 : static_cast<std::uint64_t>(shape_[0]);
  return source;
}

ort::Status* CodedInput::open(const ort::TensorView& payload, std::shared_ptr<const SingleTensor>* out) {
  if (!is_constant(payload)) return check(payload, out);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (opened_ == nullptr)
    if (ort::Status* status = check(payload, &opened_)) return status;
  *out = opened_;
  return nullptr;
}

ort::Status* CodedInput::check(const ort::TensorView& payload, std::shared_ptr<const SingleTensor>* out) const {
  const std::uint32_t crc = nnc::crc32(payload.data, payload.elements);
  if (crc != crc32_)
    return fail(api_, kCodeMismatch, where(),
                "the CRC-32 of the payload is " + hex(crc) + ", the model says " + hex(crc32_) +
                    "; the model file is damaged");
  auto tensor = std::make_shared<SingleTensor>();
  const Status status = tensor->open(payload.data, payload.elements, Limits{});
  if (!status.ok()) return fail(api_, where(), status);
  const SingleInfo& info = tensor->info();
  bool same = info.dims_count == shape_.size() && info.elements == elements_;
  for (std::size_t i = 0; same && i < shape_.size(); ++i) same = info.dims[i] == static_cast<std::uint64_t>(shape_[i]);
  if (!same)
    return fail(api_, kCodeMismatch, where(),
                "the payload holds a tensor of shape " + shape_text(info.dims, info.dims_count) +
                    ", attribute shape is " + shape_text(shape_.data(), shape_.size()));
  if (elements_ / kMaxExpansion > payload.elements)
    return fail(api_, "NNC-E105", where(),
                std::to_string(elements_) + " elements from " + std::to_string(payload.elements) + " bytes");
  *out = std::move(tensor);
  return nullptr;
}

}  // namespace nnc
