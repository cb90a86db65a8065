#include "shareable.h"

#include <cstring>
#include <exception>
#include <unordered_set>

namespace nnc {
namespace {

thread_local std::unordered_set<std::string> names_of_session;

}  // namespace

bool is_shareable(const std::string& tensor) { return names_of_session.count(tensor) != 0; }

}  // namespace nnc

std::int32_t onnx_nnc_share(const char* names, std::size_t size) {
  nnc::names_of_session.clear();
  try {
    for (std::size_t at = 0; at < size;) {
      const void* end = std::memchr(names + at, 0, size - at);
      if (end == nullptr) break;
      nnc::names_of_session.emplace(names + at);
      at = static_cast<std::size_t>(static_cast<const char*>(end) - names) + 1;
    }
    return 1;
  } catch (const std::exception&) {
    nnc::names_of_session.clear();
    return 0;
  }
}
