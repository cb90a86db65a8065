// Decoding of a bitstream that holds one data unit: STR, MPS, [TPL], NDU. This is what a run-time library needs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "status.h"

namespace nnc {

struct Limits {
  std::uint64_t max_elements = std::uint64_t{1} << 32;
  std::uint32_t max_dims = 16;
};

// Element types a decoded tensor can be handed out in.
enum class DType : std::int32_t {
  float32, float64, float16, bfloat16, int8, uint8, int16, uint16, int32, uint32, int64, uint64
};

struct SingleInfo {
  std::uint32_t payload_type = 0;  // nnr_compressed_data_unit_payload_type
  std::uint32_t dims_count = 0;
  std::uint64_t dims[16] = {};
  std::uint64_t elements = 0;
};

// Parses the headers only.
Status inspect_single(const std::uint8_t* data, std::size_t size, const Limits& limits, SingleInfo* info);

// Decodes into `out`, which holds `elements` values of `type` in C order. Float results are rounded to nearest even
// for float16/bfloat16; integers that do not fit an integer `type` are Code::corrupt.
Status decode_single(const std::uint8_t* data, std::size_t size, const Limits& limits, DType type, void* out,
                     std::uint64_t elements);

}  // namespace nnc
