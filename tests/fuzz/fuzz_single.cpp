// Decoding of one-unit bitstreams from arbitrary bytes, by the portable kernels and by the others.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"
#include "single.h"

namespace {

constexpr std::uint64_t kMaxElements = 1 << 18;
constexpr nnc::DType kTypes[] = {nnc::DType::float32, nnc::DType::float16, nnc::DType::bfloat16, nnc::DType::float64,
                                 nnc::DType::int32,   nnc::DType::int8,    nnc::DType::uint16,   nnc::DType::int64};
constexpr std::size_t kSizes[] = {4, 2, 2, 8, 4, 1, 2, 8};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nnc::Limits limits;
  limits.max_elements = kMaxElements;
  nnc::SingleInfo info;
  const nnc::Status parsed = nnc::inspect_single(data, size, limits, &info);
  if (!parsed.ok()) info.elements = 7;  // decoding must refuse as well
  if (info.elements > kMaxElements) __builtin_trap();
  for (std::size_t i = 0; i < sizeof kTypes / sizeof *kTypes; ++i) {
    std::vector<std::uint8_t> out(info.elements * kSizes[i]);  // exact, so that the sanitizer sees one byte too many
    const nnc::Status status = nnc::decode_single(data, size, limits, kTypes[i], out.data(), info.elements);
    if (status.ok() && !parsed.ok()) __builtin_trap();
    if (status.what == nullptr) __builtin_trap();
    std::vector<std::uint8_t> other(out.size());
    nnc::use_portable_kernels(true);
    const nnc::Status portable = nnc::decode_single(data, size, limits, kTypes[i], other.data(), info.elements);
    nnc::use_portable_kernels(false);
    if (portable.code != status.code || (status.ok() && out != other)) __builtin_trap();
  }
  return 0;
}

#include "replay.h"
