#include "stats.h"

namespace nnc {

Stats& stats() {
  static Stats instance;
  return instance;
}

namespace {

struct Counter {
  const char* name;
  std::atomic<std::uint64_t> Stats::* value;
  bool level;  // goes up and down with what is alive
};

constexpr Counter kCounters[] = {
    {"kernels", &Stats::kernels, true},
    {"computes", &Stats::computes, false},
    {"decodes", &Stats::decodes, false},
    {"decoded_bytes", &Stats::decoded_bytes, false},
    {"decode_ns", &Stats::decode_ns, false},
    {"split_decodes", &Stats::split_decodes, false},
    {"payload_bytes", &Stats::payload_bytes, false},
    {"failures", &Stats::failures, false},
    {"cache_hits", &Stats::cache_hits, false},
    {"cache_misses", &Stats::cache_misses, false},
    {"cache_loans", &Stats::cache_loans, false},
    {"cache_evictions", &Stats::cache_evictions, false},
    {"cache_restores", &Stats::cache_restores, false},
    {"row_hits", &Stats::row_hits, false},
    {"row_misses", &Stats::row_misses, false},
    {"recodings", &Stats::recodings, false},
    {"recoded_reads", &Stats::recoded_reads, false},
    {"recoded_ns", &Stats::recoded_ns, false},
    {"recoded_bytes", &Stats::recoded_bytes, true},
    {"cache_bytes", &Stats::cache_bytes, true},
    {"cache_peak_bytes", &Stats::cache_peak_bytes, true},
};
constexpr std::size_t kCounterCount = sizeof kCounters / sizeof kCounters[0];

}  // namespace
}  // namespace nnc

std::int32_t onnx_nnc_interface_version() { return 1; }

const char* onnx_nnc_stat_name(std::size_t index) {
  return index < nnc::kCounterCount ? nnc::kCounters[index].name : nullptr;
}

std::uint64_t onnx_nnc_stat_value(std::size_t index) {
  return index < nnc::kCounterCount ? (nnc::stats().*nnc::kCounters[index].value).load() : 0;
}

void onnx_nnc_reset_stats() {
  for (const nnc::Counter& counter : nnc::kCounters)
    if (!counter.level) (nnc::stats().*counter.value).store(0);
  nnc::stats().cache_peak_bytes.store(nnc::stats().cache_bytes.load());
}
