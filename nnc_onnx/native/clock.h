// Time spent on something, counted.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

namespace nnc {

// Adds the nanoseconds it lives to a counter.
class Clock {
 public:
  explicit Clock(std::atomic<std::uint64_t>& counter) : counter_(counter) {}
  ~Clock() {
    const auto spent = std::chrono::steady_clock::now() - start_;
    counter_ += static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;

 private:
  std::atomic<std::uint64_t>& counter_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace nnc
