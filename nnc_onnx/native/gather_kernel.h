// One look-up in a coded table of one session: decodes the block rows that the indices fall into, and keeps rows.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache.h"
#include "coded_input.h"
#include "op_types.h"
#include "ort_api.h"
#include "session_config.h"

namespace nnc {

class GatherKernel {
 public:
  // Reads the attributes; nullptr or the status to hand to onnxruntime.
  static ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                             const SessionConfig& config, GatherKernel** out);
  ~GatherKernel();
  GatherKernel(const GatherKernel&) = delete;
  GatherKernel& operator=(const GatherKernel&) = delete;

  ort::Status* compute(ort::KernelContext* context);
  const ort::Api* api() const { return api_; }

 private:
  GatherKernel(const ort::Api* api, const OpType& type, const SessionConfig& config);
  ort::Status* run(ort::KernelContext* context);
  ort::Status* read_indices(const ort::KernelContext* context, std::vector<std::int64_t>* shape,
                            std::vector<std::uint64_t>* rows) const;
  template <class Index>
  ort::Status* check_indices(const Index* indices, std::size_t count, std::vector<std::uint64_t>* rows) const;
  ort::Status* decode_rows(ort::KernelContext* context, const SingleTensor& tensor,
                           const std::vector<std::uint64_t>& rows, std::vector<std::size_t>& wanted,
                           std::uint8_t* out);
  std::shared_ptr<const Recoded> recoded(const ort::KernelContext* context, const SingleTensor& tensor);
  void restore_rows(ort::KernelContext* context, const SingleTensor& tensor, const Recoded& form,
                    const std::vector<std::uint64_t>& rows, std::vector<std::size_t>& wanted, std::uint8_t* out) const;

  const ort::Api* api_;
  const SessionConfig& config_;
  CodedInput input_;
  CacheEntry* entry_ = nullptr;  // only if the payload is constant
  std::atomic<std::uint64_t> decoded_elements_{0};
  std::uint64_t height_ = 0;     // rows of the table
  std::size_t row_bytes_ = 0;
};

}  // namespace nnc
