#include "decoding.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "levels.h"
#include "parallel.h"
#include "stats.h"

namespace nnc {
namespace {

// Fewer elements are not worth a second thread.
constexpr std::uint64_t kLeastElementsOfPart = 16384;

class Clock {
 public:
  ~Clock() {
    const auto spent = std::chrono::steady_clock::now() - start_;
    stats().decode_ns +=
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Outcome decode_whole(const SingleTensor& tensor, DType type, const Target& target) {
  const Clock clock;
  if (target.level_bytes == 0) return {tensor.decode(type, target.out)};
  LevelSink sink(tensor.reconstruction(type), tensor.info().elements, target.level_bytes, target.out);
  const Status status = tensor.read_integers(sink);
  return {status, sink.too_wide()};
}

Outcome decode_part(const SingleTensor& tensor, DType type, const Target& target, std::uint64_t first,
                    std::uint64_t count) {
  const Clock clock;
  if (target.level_bytes == 0) {
    const std::uint64_t position = first * tensor.block_height() * tensor.cols();
    return {tensor.decode_block_rows(first, count, type, static_cast<std::uint8_t*>(target.out) + position * size_of(type))};
  }
  LevelSink sink(tensor.reconstruction(type), tensor.info().elements, target.level_bytes, target.out);
  const Status status = tensor.read_block_rows(first, count, sink);
  return {status, sink.too_wide()};
}

Outcome decode_split(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                     const ort::KernelContext* context, std::uint64_t parts) {
  std::atomic<bool> failed{false}, too_wide{false};
  auto task = [&](std::size_t index) {
    if (failed.load(std::memory_order_relaxed)) return;
    const std::uint64_t rows = tensor.block_rows();
    const std::uint64_t first = rows * index / parts, end = rows * (index + 1) / parts;
    const Outcome outcome = decode_part(tensor, type, target, first, end - first);
    if (outcome.too_wide) too_wide = true;
    if (!outcome.ok()) failed = true;
  };
  parallel_for(api, context, static_cast<std::size_t>(parts), task);
  if (too_wide) return {{Code::corrupt, "integer out of range", 0}, true};
  return failed ? decode_whole(tensor, type, target) : Outcome{};
}

}  // namespace

Outcome decode_tensor(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                      const ort::KernelContext* context, std::size_t threads, std::size_t payload_bytes) {
  const std::uint64_t elements = tensor.info().elements;
  if (target.level_bytes != 0) prepare_levels(elements, target.level_bytes, target.out);
  // Parts are decoded at different speeds, so there are more of them than threads.
  std::uint64_t parts = threads > 1 && context != nullptr ? 2 * std::uint64_t{threads} : 1;
  parts = std::min({parts, tensor.block_rows(), elements / kLeastElementsOfPart});
  const Outcome outcome = parts > 1 ? decode_split(tensor, type, target, api, context, parts)
                                    : decode_whole(tensor, type, target);
  if (!outcome.ok()) return outcome;
  Stats& counters = stats();
  ++counters.decodes;
  if (parts > 1) ++counters.split_decodes;
  counters.decoded_bytes += elements * (target.level_bytes ? target.level_bytes : size_of(type));
  counters.payload_bytes += payload_bytes;
  return outcome;
}

}  // namespace nnc
