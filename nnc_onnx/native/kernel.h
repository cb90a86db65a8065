// One decode operator of one session.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cache.h"
#include "coded_input.h"
#include "decoding.h"
#include "op_types.h"
#include "ort_api.h"
#include "session_config.h"

namespace nnc {

class Kernel {
 public:
  // Reads the attributes; nullptr or the status to hand to onnxruntime.
  static ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                             const SessionConfig& config, Kernel** out);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  ort::Status* compute(ort::KernelContext* context);
  const ort::Api* api() const { return api_; }

 private:
  struct Job;

  Kernel(const ort::Api* api, const OpType& type, const SessionConfig& config);
  ort::Status* output(ort::KernelContext* context, void** out) const;
  ort::Status* compute_cached(ort::KernelContext* context, const SingleTensor& tensor);
  ort::Status* hand_out(ort::KernelContext* context, const SingleTensor& tensor, void* out);
  ort::Status* restore(ort::KernelContext* context, const SingleTensor& tensor, void* out) const;
  RecodedSlot* slot() const;
  ort::Status* decode(ort::KernelContext* context, const SingleTensor& tensor, const ort::TensorView& payload,
                      RecodedSlot* recoded, void* out);

  const ort::Api* api_;
  const SessionConfig& config_;
  CodedInput input_;
  CacheEntry* entry_ = nullptr;  // only if the payload is constant and the session keeps something of it
  bool shareable_ = false;       // consumers only read the tensor, and onnxruntime takes it without a copy
};

}  // namespace nnc
