// One decode operator of one session.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "op_types.h"
#include "ort_api.h"

namespace nnc {

class Kernel {
 public:
  // Reads the attributes; nullptr or the status to hand to onnxruntime.
  static ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type, Kernel** out);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  ort::Status* compute(ort::KernelContext* context);
  const ort::Api* api() const { return api_; }

 private:
  Kernel(const ort::Api* api, const OpType& type);
  ort::Status* read(const ort::KernelInfo* info);
  ort::Status* check(const ort::TensorView& payload) const;
  ort::Status* decode(const ort::TensorView& payload, void* out) const;
  std::string where(const ort::TensorView& payload) const;

  const ort::Api* api_;
  const OpType& type_;
  std::string tensor_;
  std::vector<std::int64_t> shape_;
  std::uint64_t elements_ = 0;
  std::uint32_t crc32_ = 0;
  ort::TensorView constant_payload_;  // empty when the payload is not an initializer of this graph
  std::atomic<bool> constant_checked_{false};
};

}  // namespace nnc
