// Outcome of every native entry point. No exception leaves the core and no text is built here: `what` is a literal.
#pragma once
#include <cstdint>

namespace nnc {

enum class Code : std::int32_t {
  ok = 0,
  corrupt = 1,          // the bits contradict the syntax
  truncated = 2,        // the bits end early
  unsupported = 3,      // legal, but this build cannot decode it
  invalid_argument = 4, // the caller's values are unusable
  limit_exceeded = 5,   // above a limit of `Limits`
  out_of_memory = 6,
};

struct Status {
  Code code = Code::ok;
  const char* what = "";        // syntax element or reason, a string literal
  std::uint64_t bit_offset = 0; // where, counted from the start of the buffer that was passed in
  bool ok() const { return code == Code::ok; }
};

}  // namespace nnc
