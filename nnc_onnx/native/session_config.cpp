#include "session_config.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace nnc {
namespace {

constexpr std::size_t kMostThreads = 64;

// 0 for anything but a decimal number.
std::size_t read_number(const ort::Api* api, const ort::SessionOptions* options, const char* key) {
  const std::string text = ort::session_config(api, options, key);
  std::size_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? value : 0;
}

}  // namespace

SessionConfig read_session_config(const ort::Api* api, const ort::SessionOptions* options) {
  SessionConfig config;
  config.cache_bytes = read_number(api, options, "onnx_nnc.cache_bytes");
  config.ahead = read_number(api, options, "onnx_nnc.ahead");
  if (config.ahead >= kMostThreads) config.ahead = kMostThreads - 1;
  config.threads = read_number(api, options, "onnx_nnc.threads");
  config.threads = std::clamp<std::size_t>(config.threads, 1, kMostThreads);
  config.levels = read_number(api, options, "onnx_nnc.cache_levels") == 1;
  config.lend = read_number(api, options, "onnx_nnc.lend") == 1;
  config.recode = read_number(api, options, "onnx_nnc.recode") == 1;
  return config;
}

}  // namespace nnc
