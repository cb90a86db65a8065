// What the kernels need of onnxruntime, with results instead of status objects, and the checks made at registration.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace nnc::ort {

// Bytes of a tensor that onnxruntime owns.
struct TensorView {
  const std::uint8_t* data = nullptr;
  std::size_t elements = 0;
};

// Minor number of a 1.x version string, or -1.
int minor_version(const char* version_string);

// Checks slot numbers and signatures against behaviour; empty when all is well, else what failed.
std::string self_test(const Api* api);

// Each returns nullptr or the status to hand to onnxruntime.
Status* read_attribute(const Api* api, const KernelInfo* info, const char* name, std::int64_t* out);
Status* read_attribute(const Api* api, const KernelInfo* info, const char* name, std::vector<std::int64_t>* out);
Status* view_tensor(const Api* api, const Value* value, TensorView* out);
Status* view_tensor(const Api* api, const Value* value, TensorView* out, ElementType* type,
                    std::vector<std::int64_t>* shape);

// Empty when onnxruntime does not tell.
std::string output_name(const Api* api, const KernelInfo* info);
// Name of the tensor that the payload, input 0, belongs to.
std::string payload_owner(const Api* api, const KernelInfo* info);
std::string session_config(const Api* api, const SessionOptions* options, const char* key);

// Drops a status that needs no report; true when there was none.
bool succeeded(const Api* api, Status* status);

}  // namespace nnc::ort
