// One clear line for everything that goes wrong; codes as in nnc_codec/errors.py and nnc_onnx/{errors,runtime_errors}.py.
#pragma once
#include <string>

#include "ort_abi.h"
#include "status.h"

namespace nnc {

constexpr const char* kCodeTooOld = "NNC-E221";
constexpr const char* kCodeRegistration = "NNC-E223";
constexpr const char* kCodeMismatch = "NNC-E212";
constexpr const char* kCodeMemory = "NNC-E224";

ort::Status* fail(const ort::Api* api, const char* code, const std::string& where, const std::string& what);

// The outcome of a decoder call on the payload of `where`.
ort::Status* fail(const ort::Api* api, const std::string& where, const Status& status);

}  // namespace nnc
