#include "decoding.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "clock.h"
#include "levels.h"
#include "parallel.h"
#include "stats.h"

namespace nnc {
namespace {

// Fewer elements are not worth a second thread.
constexpr std::uint64_t kLeastElementsOfPart = 16384;
// Fewer elements take as long to begin with as to decode.
constexpr std::uint64_t kLeastElementsOfForm = 1024;

Outcome decode_whole(const SingleTensor& tensor, DType type, const Target& target) {
  const Clock clock(stats().decode_ns);
  if (target.level_bytes == 0) return {tensor.decode(type, target.out)};
  LevelSink sink(tensor.reconstruction(type), tensor.info().elements, target.level_bytes, target.out);
  const Status status = tensor.read_integers(sink);
  return {status, sink.too_wide()};
}

Outcome decode_part(const SingleTensor& tensor, DType type, const Target& target, std::uint64_t first,
                    std::uint64_t count) {
  const Clock clock(stats().decode_ns);
  if (target.level_bytes == 0) {
    const std::uint64_t position = first * tensor.block_height() * tensor.cols();
    return {tensor.decode_block_rows(first, count, type, static_cast<std::uint8_t*>(target.out) + position * size_of(type))};
  }
  LevelSink sink(tensor.reconstruction(type), tensor.info().elements, target.level_bytes, target.out);
  const Status status = tensor.read_block_rows(first, count, sink);
  return {status, sink.too_wide()};
}

// How many parts to decode a payload in.
std::uint64_t parts_of(const SingleTensor& tensor, const ort::KernelContext* context, std::size_t threads) {
  if (threads <= 1 || context == nullptr) return 1;
  // Parts are decoded at different speeds, so there are more of them than threads.
  return std::min({2 * std::uint64_t{threads}, tensor.block_rows(), tensor.info().elements / kLeastElementsOfPart});
}

// Calls part(first, count) for `parts` ranges of all `rows`, side by side, until one is false; whether all were true.
template <class Part>
bool share_out(const ort::Api* api, const ort::KernelContext* context, std::uint64_t rows, std::uint64_t parts,
               Part part) {
  std::atomic<bool> failed{false};
  auto task = [&](std::size_t index) {
    if (failed.load(std::memory_order_relaxed)) return;
    const std::uint64_t first = rows * index / parts, end = rows * (index + 1) / parts;
    if (!part(first, end - first)) failed = true;
  };
  parallel_for(api, context, static_cast<std::size_t>(parts), task);
  return !failed;
}

Outcome decode_split(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                     const ort::KernelContext* context, std::uint64_t parts) {
  std::atomic<bool> too_wide{false};
  const bool all = share_out(api, context, tensor.block_rows(), parts, [&](std::uint64_t first, std::uint64_t count) {
    const Outcome outcome = decode_part(tensor, type, target, first, count);
    if (outcome.too_wide) too_wide = true;
    return outcome.ok();
  });
  if (too_wide) return {{Code::corrupt, "integer out of range", 0}, true};
  return all ? Outcome{} : decode_whole(tensor, type, target);
}

// The integers of the payload; not ok if `sink` rejects some.
Status collect(const SingleTensor& tensor, LevelCollector& sink, const ort::Api* api, const ort::KernelContext* context,
               std::uint64_t parts) {
  const Clock clock(stats().decode_ns);
  const auto part = [&](std::uint64_t first, std::uint64_t count) {
    return tensor.read_block_rows(first, count, sink).ok();
  };
  if (parts > 1 && share_out(api, context, tensor.block_rows(), parts, part)) return {};
  return tensor.read_integers(sink);
}

void count_decoded(const SingleTensor& tensor, std::uint64_t bytes, std::uint64_t parts, std::size_t payload_bytes) {
  Stats& counters = stats();
  ++counters.decodes;
  if (parts > 1) ++counters.split_decodes;
  counters.decoded_bytes += tensor.info().elements * bytes;
  counters.payload_bytes += payload_bytes;
}

bool restore_form(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                  const ort::KernelContext* context, std::size_t threads, const Recoded& form) {
  const std::uint64_t blocks = form.blocks();
  const std::uint64_t parts = std::min<std::uint64_t>(blocks, threads > 1 && context != nullptr ? 2 * threads : 1);
  const Reconstruction how = tensor.reconstruction(type);
  ++stats().recoded_reads;
  return share_out(api, context, blocks, parts, [&](std::uint64_t first, std::uint64_t count) {
    const Clock clock(stats().recoded_ns);
    if (target.level_bytes == 0) return form.restore(how, first, count, target.out);
    LevelSink sink(how, tensor.info().elements, target.level_bytes, target.out);
    return form.read(first, count, sink);
  });
}

}  // namespace

std::shared_ptr<const Recoded> recoded_form(const SingleTensor& tensor, DType type, const ort::Api* api,
                                            const ort::KernelContext* context, std::size_t threads,
                                            const Payload& payload, std::size_t block, RecodedSlot& slot) {
  if (std::shared_ptr<const Recoded> form = slot.get()) return form;
  const std::uint64_t elements = tensor.info().elements;
  if (!tensor.has_levels() || elements < kLeastElementsOfForm || !slot.begin()) return nullptr;
  const std::uint64_t parts = parts_of(tensor, context, threads);
  std::shared_ptr<const Recoded> form;
  bool again = false;
  try {
    for (const bool wide : {false, true}) {
      LevelCollector collector(tensor.reconstruction(type), elements, wide);
      if (!collect(tensor, collector, api, context, parts).ok()) continue;
      let_go(payload.data, payload.size);
      form = Recoded::make(collector, block);
      ++stats().recodings;
      count_decoded(tensor, 1, parts, payload.size);
      break;
    }
  } catch (const std::bad_alloc&) {
    again = true;
  }
  slot.finish(form, again);
  return form;
}

Outcome decode_tensor(const SingleTensor& tensor, DType type, const Target& target, const ort::Api* api,
                      const ort::KernelContext* context, std::size_t threads, const Payload& payload,
                      RecodedSlot* recoded) {
  // Sinks of integers do not look at the element type, which the model chooses.
  if (const Status typed = check(tensor.reconstruction(type)); !typed.ok()) return {typed};
  const std::uint64_t elements = tensor.info().elements;
  const std::uint64_t parts = parts_of(tensor, context, threads);
  if (target.level_bytes != 0) prepare_levels(elements, target.level_bytes, target.out);
  if (recoded != nullptr) {
    const auto form = recoded_form(tensor, type, api, context, threads, payload, Recoded::kBlock, *recoded);
    if (form != nullptr && restore_form(tensor, type, target, api, context, threads, *form)) return {};
    if (target.level_bytes != 0) prepare_levels(elements, target.level_bytes, target.out);
  }
  const Outcome outcome = parts > 1 ? decode_split(tensor, type, target, api, context, parts)
                                    : decode_whole(tensor, type, target);
  if (outcome.ok()) count_decoded(tensor, target.level_bytes ? target.level_bytes : size_of(type), parts, payload.size);
  return outcome;
}

}  // namespace nnc
