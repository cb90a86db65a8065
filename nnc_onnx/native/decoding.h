// One decode of a tensor on behalf of an operator, counted.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "ort_abi.h"
#include "recoded.h"
#include "reconstruct.h"
#include "single_tensor.h"

namespace nnc {

// Where a decode goes, and in what form.
struct Target {
  void* out = nullptr;
  unsigned level_bytes = 0;  // 0: values of the element type; 1 or 2: integers of that size
};

struct Outcome {
  Status status;
  bool too_wide = false;  // the integers need more than `level_bytes`; `status` is not ok then

  bool ok() const { return status.ok(); }
};

// The bytes that a tensor is decoded from.
struct Payload {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;
};

// The recoded form of `tensor`, made now if nobody has begun to; nullptr if there is none or not yet. `block` as for
// Recoded::make.
std::shared_ptr<const Recoded> recoded_form(const SingleTensor& tensor, DType type, const ort::Api* api,
                                            const ort::KernelContext* context, std::size_t threads,
                                            const Payload& payload, std::size_t block, RecodedSlot& slot);

// Decodes all of `tensor`. With a context the block rows of the tensor, if it has entry points, are shared out to up to
// `threads` threads. Wrong entry points do no harm: the tensor is then decoded in one piece.
//
// With `recoded` the recoded form takes the place of the payload from now on, where there can be one.
Outcome decode_tensor(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                      const ort::KernelContext* context, std::size_t threads, const Payload& payload,
                      RecodedSlot* recoded = nullptr);

}  // namespace nnc
