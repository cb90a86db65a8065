#include "ort_api.h"

#include <cstdlib>
#include <cstring>

namespace nnc::ort {

namespace {

// More than any tensor has: a wrong slot must not allocate.
constexpr std::size_t kMostDimensions = 4096;

}  // namespace

int minor_version(const char* version_string) {
  if (version_string == nullptr || std::strncmp(version_string, "1.", 2) != 0) return -1;
  char* end = nullptr;
  const long minor = std::strtol(version_string + 2, &end, 10);
  if (end == version_string + 2 || minor < 0 || minor > 100000) return -1;
  return static_cast<int>(minor);
}

bool succeeded(const Api* api, Status* status) {
  if (status == nullptr) return true;
  ReleaseStatus::call(api, status);
  return false;
}

Status* read_attribute(const Api* api, const KernelInfo* info, const char* name, std::int64_t* out) {
  return GetAttributeInt::call(api, info, name, out);
}

Status* read_attribute(const Api* api, const KernelInfo* info, const char* name, std::vector<std::int64_t>* out) {
  std::size_t size = 0;
  if (Status* status = GetAttributeInts::call(api, info, name, nullptr, &size)) return status;
  out->assign(size, 0);
  if (size == 0) return nullptr;
  return GetAttributeInts::call(api, info, name, out->data(), &size);
}

Status* view_tensor(const Api* api, const Value* value, TensorView* out) {
  return view_tensor(api, value, out, nullptr, nullptr);
}

Status* view_tensor(const Api* api, const Value* value, TensorView* out, ElementType* type,
                    std::vector<std::int64_t>* shape) {
  void* data = nullptr;
  if (Status* status = GetTensorMutableData::call(api, value, &data)) return status;
  TensorTypeAndShapeInfo* info = nullptr;
  if (Status* status = GetTypeAndShape::call(api, value, &info)) return status;
  Status* status = GetElementCount::call(api, info, &out->elements);
  int found = kUndefined;
  if (status == nullptr && type != nullptr) status = GetTensorElementType::call(api, info, &found);
  if (type != nullptr) *type = static_cast<ElementType>(found);
  std::size_t rank = 0;
  if (status == nullptr && shape != nullptr) status = GetDimensionsCount::call(api, info, &rank);
  if (status == nullptr && shape != nullptr && rank <= kMostDimensions) {
    shape->resize(rank);
    status = GetDimensions::call(api, info, shape->data(), rank);
  }
  ReleaseTypeAndShape::call(api, info);
  out->data = static_cast<const std::uint8_t*>(data);
  return status;
}

namespace {

constexpr std::size_t kLongestText = 65536;

// A text of which onnxruntime tells the size first; empty when it does not.
template <class Get>
std::string read_text(const Api* api, Get get) {
  std::size_t size = 0;
  if (!succeeded(api, get(nullptr, &size)) || size == 0 || size > kLongestText) return {};
  std::string text(size, '\0');
  if (!succeeded(api, get(text.data(), &size))) return {};
  text.resize(std::strlen(text.c_str()));
  return text;
}

}  // namespace

std::string output_name(const Api* api, const KernelInfo* info) {
  return read_text(api, [&](char* out, std::size_t* size) { return GetOutputName::call(api, info, 0, out, size); });
}

std::string payload_owner(const Api* api, const KernelInfo* info) {
  std::string name =
      read_text(api, [&](char* out, std::size_t* size) { return GetInputName::call(api, info, 0, out, size); });
  const std::string suffix = ".nnr";
  if (name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
    name.resize(name.size() - suffix.size());
  return name;
}

std::string session_config(const Api* api, const SessionOptions* options, const char* key) {
  int present = 0;
  if (!succeeded(api, HasSessionConfig::call(api, options, key, &present)) || present == 0) return {};
  return read_text(
      api, [&](char* out, std::size_t* size) { return GetSessionConfig::call(api, options, key, out, size); });
}

namespace {

bool status_round_trip(const Api* api) {
  Status* status = CreateStatus::call(api, kInvalidArgument, "nnc");
  if (status == nullptr) return false;
  const char* text = GetErrorMessage::call(api, status);
  const bool same = text != nullptr && std::strcmp(text, "nnc") == 0;
  ReleaseStatus::call(api, status);
  return same;
}

bool tensor_round_trip(const Api* api) {
  MemoryInfo* memory = nullptr;
  if (!succeeded(api, CreateCpuMemoryInfo::call(api, kDeviceAllocator, kMemTypeDefault, &memory))) return false;
  std::uint8_t bytes[6] = {};
  const std::int64_t dims[2] = {2, 3};
  Value* value = nullptr;
  bool same = succeeded(api, CreateTensorWithData::call(api, memory, bytes, sizeof bytes, dims, 2, kUInt8, &value));
  if (same) {
    TensorView view;
    ElementType type = kUndefined;
    std::vector<std::int64_t> shape;
    same = succeeded(api, view_tensor(api, value, &view, &type, &shape)) && view.data == bytes && view.elements == 6 &&
           type == kUInt8 && shape == std::vector<std::int64_t>(dims, dims + 2);
    ReleaseValue::call(api, value);
  }
  ReleaseMemoryInfo::call(api, memory);
  return same;
}

bool attribute_round_trip(const Api* api) {
  const std::int64_t number = 7;
  OpAttr* attribute = nullptr;
  if (!succeeded(api, CreateOpAttr::call(api, "n", &number, 1, kOpAttrInt, &attribute))) return false;
  ReleaseOpAttr::call(api, attribute);
  return attribute != nullptr;
}

}  // namespace

std::string self_test(const Api* api) {
  if (!status_round_trip(api)) return "status objects";
  if (!tensor_round_trip(api)) return "tensors";
  if (!attribute_round_trip(api)) return "operator attributes";
  return {};
}

}  // namespace nnc::ort
