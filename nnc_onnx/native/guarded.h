// No exception may cross into onnxruntime.
#pragma once
#include <exception>
#include <new>

#include "ort_abi.h"

namespace nnc {

template <class Body>
ort::Status* guarded(const ort::Api* api, Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return ort::CreateStatus::call(api, ort::kFail, "NNC-E224: not enough memory");
  } catch (const std::exception&) {
    return ort::CreateStatus::call(api, ort::kFail, "NNC-E100: internal error");
  }
}

}  // namespace nnc
