// Hands tensors of the cache to onnxruntime without a copy.
//
// onnxruntime allocates the output of an operator itself. So the library registers an allocator for the CPU with
// onnxruntime's environment; when an operator is about to lend a cached tensor, the allocator answers the next request
// of that thread with the tensor's block, and takes the release of the block as the end of the loan. Everything else
// it serves from pooled memory. Needs onnxruntime 1.23, which gives a library the environment of the process.
#pragma once
#include "ort_abi.h"

namespace nnc {

struct CacheEntry;

// Registers the allocator once per copy of onnxruntime; false when onnxruntime does not take it.
bool register_allocator(const ort::Api* api);

// While it lives, the next fitting request of this thread gets the block of `entry`, which must be pinned. When the
// block is released the pin goes.
class Loan {
 public:
  explicit Loan(CacheEntry& entry);
  ~Loan();
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
};

}  // namespace nnc
