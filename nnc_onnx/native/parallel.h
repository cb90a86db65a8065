// Work shared out to the threads that onnxruntime has for an operator.
#pragma once
#include <cstddef>

#include "ort_abi.h"

namespace nnc {

// Calls task(index) for 0 to `count` - 1, each once, and returns when all are done. `task` throws nothing.
template <class Task>
void parallel_for(const ort::Api* api, const ort::KernelContext* context, std::size_t count, Task& task) {
  if (count > 1) {
    const auto call = [](void* data, std::size_t index) { (*static_cast<Task*>(data))(index); };
    ort::Status* status = ort::ParallelFor::call(api, context, call, count, 0, &task);
    if (status == nullptr) return;
    // Refused before anything ran.
    ort::ReleaseStatus::call(api, status);
  }
  for (std::size_t index = 0; index < count; ++index) task(index);
}

}  // namespace nnc
