// One decode operator of one session.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cache.h"
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
  ort::Status* read(const ort::KernelInfo* info);
  bool is_constant(const ort::TensorView& payload) const;
  ort::Status* check(const ort::TensorView& payload);
  ort::Status* check_bytes(const ort::TensorView& payload) const;
  ort::Status* decode(const ort::TensorView& payload, void* out) const;
  ort::Status* output(ort::KernelContext* context, void** out) const;
  ort::Status* compute_cached(ort::KernelContext* context);
  ort::Status* hand_out(ort::KernelContext* context, void* out);
  ort::Status* run_jobs(ort::KernelContext* context, std::vector<Job>& jobs);
  std::string where(const ort::TensorView& payload) const;

  const ort::Api* api_;
  const OpType& type_;
  const SessionConfig& config_;
  std::string tensor_;
  std::vector<std::int64_t> shape_;
  std::uint64_t elements_ = 0;
  std::uint32_t crc32_ = 0;
  ort::TensorView constant_payload_;  // empty when the payload is not an initializer of this graph
  std::atomic<bool> constant_checked_{false};
  CacheEntry* entry_ = nullptr;  // only if the payload is constant and the session has a cache
  bool shareable_ = false;             // consumers only read the tensor, and onnxruntime takes it without a copy
};

}  // namespace nnc
