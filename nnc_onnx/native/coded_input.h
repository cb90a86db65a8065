// The coded tensor of an operator: what its attributes say, and its payload once that is checked against them.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache.h"
#include "op_types.h"
#include "ort_api.h"
#include "single_tensor.h"

namespace nnc {

class CodedInput {
 public:
  CodedInput(const ort::Api* api, const OpType& type) : api_(api), type_(type) {}

  // Reads the attributes, and the payload if it is an initializer of this graph. `name` is for messages.
  ort::Status* read(const ort::KernelInfo* info, std::string name);

  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::uint64_t elements() const { return elements_; }
  std::size_t bytes() const { return static_cast<std::size_t>(elements_ * type_.bytes); }
  std::uint32_t crc32() const { return crc32_; }
  const OpType& type() const { return type_; }
  // Empty when the payload is not an initializer of this graph.
  const ort::TensorView& constant() const { return constant_; }
  bool is_constant(const ort::TensorView& payload) const {
    return payload.data != nullptr && payload.data == constant_.data;
  }

  // How the cache knows the constant.
  CacheSource source() const;

  // Checks checksum, shape and expansion, before anything of the claimed size is allocated. An initializer cannot
  // change after it was checked once; anything else is checked at every use.
  ort::Status* open(const ort::TensorView& payload, std::shared_ptr<const SingleTensor>* out);

  std::string where() const;

 private:
  ort::Status* check(const ort::TensorView& payload, std::shared_ptr<const SingleTensor>* out) const;

  const ort::Api* api_;
  const OpType& type_;
  std::string name_;
  std::vector<std::int64_t> shape_;
  std::uint64_t elements_ = 0;
  std::uint32_t crc32_ = 0;
  ort::TensorView constant_;
  std::mutex mutex_;
  std::shared_ptr<const SingleTensor> opened_;  // of the constant
};

}  // namespace nnc
