// Which decoded tensors may be handed out without a copy: those whose consumers only read them. A consumer that works
// in place would write into the cache. The library cannot see the graph, so whoever creates a session tells it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "ort_abi.h"

namespace nnc {

// Whether the session that this thread is creating may lend the tensor.
bool is_shareable(const std::string& tensor);

}  // namespace nnc

// Names the tensors of the session that this thread creates next: zero-terminated UTF-8, one after the other, `size`
// bytes in all. Call it with (nullptr, 0) once the session stands. Returns 1, or 0 when nothing could be noted.
NNC_EXPORT std::int32_t onnx_nnc_share(const char* names, std::size_t size);
