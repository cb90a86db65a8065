// One group operator of one session: many small tensors from one payload.
//
// They are decoded at the first use and kept, because together they are small: handing them out again costs a copy.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "op_types.h"
#include "ort_api.h"

namespace nnc {

class GroupKernel {
 public:
  // Reads the attributes; nullptr or the status to hand to onnxruntime.
  static ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type, GroupKernel** out);
  ~GroupKernel();
  GroupKernel(const GroupKernel&) = delete;
  GroupKernel& operator=(const GroupKernel&) = delete;

  ort::Status* compute(ort::KernelContext* context);
  const ort::Api* api() const { return api_; }

 private:
  struct Member {
    std::vector<std::int64_t> shape;
    std::uint64_t elements = 0;
    std::size_t offset = 0;  // of its bytes in values_
  };

  GroupKernel(const ort::Api* api, const OpType& type);
  ort::Status* read(const ort::KernelInfo* info);
  ort::Status* read_shapes(const std::vector<std::int64_t>& packed);
  ort::Status* decode(const ort::TensorView& payload, std::vector<std::uint8_t>* values) const;
  ort::Status* hand_out(ort::KernelContext* context, const std::vector<std::uint8_t>& values) const;
  std::string where() const;

  const ort::Api* api_;
  const OpType& type_;
  std::string first_;  // name of the first output
  std::vector<Member> members_;
  std::size_t bytes_ = 0;
  std::uint32_t crc32_ = 0;
  ort::TensorView constant_payload_;  // empty when the payload is not an initializer of this graph
  std::mutex mutex_;
  bool decoded_ = false;
  std::vector<std::uint8_t> values_;
};

}  // namespace nnc
