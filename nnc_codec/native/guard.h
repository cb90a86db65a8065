// Keeps the standard library's exceptions inside the core.
#pragma once
#include <new>
#include <stdexcept>

#include "status.h"

namespace nnc {

// What `f` returns, or out_of_memory if an allocation failed.
template <class F>
Status without_exceptions(F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return {Code::out_of_memory, "out of memory", 0};
  } catch (const std::length_error&) {
    return {Code::out_of_memory, "out of memory", 0};
  }
}

}  // namespace nnc
