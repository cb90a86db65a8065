// Counters of the whole process, read through the C functions at the end of this file.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ort_abi.h"

namespace nnc {

struct Stats {
  std::atomic<std::uint64_t> kernels{0};        // decode operators alive in all sessions
  std::atomic<std::uint64_t> computes{0};       // times onnxruntime asked for a tensor
  std::atomic<std::uint64_t> decodes{0};        // tensors decoded
  std::atomic<std::uint64_t> decoded_bytes{0};  // bytes written by decoding
  std::atomic<std::uint64_t> decode_ns{0};      // time spent decoding, summed over threads
  std::atomic<std::uint64_t> split_decodes{0};  // tensors of them whose block rows were decoded side by side
  std::atomic<std::uint64_t> payload_bytes{0};  // payload bytes read by decoding
  std::atomic<std::uint64_t> failures{0};       // requests that ended in an error
  std::atomic<std::uint64_t> cache_hits{0};
  std::atomic<std::uint64_t> cache_misses{0};
  std::atomic<std::uint64_t> cache_loans{0};  // tensors handed to onnxruntime without a copy
  std::atomic<std::uint64_t> cache_evictions{0};
  std::atomic<std::uint64_t> cache_restores{0};  // tensors made from levels held in the cache
  std::atomic<std::uint64_t> row_hits{0};        // rows of tables that were asked for and held
  std::atomic<std::uint64_t> row_misses{0};      // rows of tables that had to be decoded
  std::atomic<std::uint64_t> recodings{0};       // tensors whose payloads were recoded
  std::atomic<std::uint64_t> recoded_reads{0};   // tensors made from the recoded form
  std::atomic<std::uint64_t> recoded_ns{0};      // time spent on that, summed over threads
  std::atomic<std::uint64_t> recoded_bytes{0};   // bytes of recoded forms held now
  std::atomic<std::uint64_t> cache_bytes{0};       // bytes of decoded tensors held now
  std::atomic<std::uint64_t> cache_peak_bytes{0};  // the most that were held at a time
};

Stats& stats();

}  // namespace nnc

// Version of the C interface and of the operator set: the loader refuses a library of another build.
NNC_EXPORT std::int32_t onnx_nnc_interface_version();
// Names of the counters in order, nullptr past the end.
NNC_EXPORT const char* onnx_nnc_stat_name(std::size_t index);
NNC_EXPORT std::uint64_t onnx_nnc_stat_value(std::size_t index);
// Sets the counters that only grow back to zero.
NNC_EXPORT void onnx_nnc_reset_stats();
