// The codeword under construction: one big binary number. Carries are walked back into bytes already written.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"
#include "range_steps.h"

namespace nnc {

// The coder's interval: width less 256, and the bits of its lower end that are not written yet.
struct Interval {
  static constexpr unsigned kMost = 35;  // pending bits that leave room for another 28 and a carry

  std::uint64_t low = 0;
  std::uint64_t width = 510 - 256;
  unsigned pending = 9;

  NNC_INLINE void take(RangeStep step) {
    width = step & 0xffu;
    raise(step);
  }
  // Takes all of a step but the width.
  NNC_INLINE void raise(RangeStep step) { raise(step >> 8 & 0xffu, step >> 16); }
  // Takes several: no more than 28 bits.
  NNC_INLINE void raise(std::uint64_t bits, std::uint64_t added) {
    low = (low << (bits & 63u)) + added;
    pending += static_cast<unsigned>(bits);
  }
  // Renormalises what is left of the width.
  NNC_INLINE void shift(std::uint64_t part, unsigned by) {
    width = (part << by) - 256;
    low <<= by;
    pending += by;
  }
  // Doubles at most, and then and only then the width becomes larger.
  NNC_INLINE void narrow(std::uint64_t next) {
    const unsigned shift = next > width;
    width = next;
    low <<= shift;
    pending += shift;
  }
  NNC_INLINE bool full() const { return __builtin_expect(pending > kMost, 0); }
};

class Codeword {
 public:
  // Writes whole bytes of the lower end; 9 to 16 bits stay.
  NNC_INLINE void flush(Interval& at) {
    const unsigned count = (at.pending - 9) / 8;  // 1 to 6
    at.pending -= 8 * count;
    const std::uint64_t moved = at.low >> at.pending;
    at.low &= (std::uint64_t{1} << at.pending) - 1;
    if (__builtin_expect((moved >> (8 * count)) != 0, 0)) carry();
    const std::uint64_t top = moved << (64 - 8 * count);
    if (__builtin_expect(bytes_.size() - size_ < 8, 0)) grow();
    std::uint8_t* const to = bytes_.data() + size_;
    for (unsigned i = 0; i < 8; ++i) to[i] = static_cast<std::uint8_t>(top >> (56 - 8 * i));
    size_ += count;
  }
  // Writes all that is left, filled up with zeros.
  void finish(Interval at) {
    while (at.pending > 8) {
      at.pending -= 8;
      put(at.low >> at.pending);
      at.low &= (std::uint64_t{1} << at.pending) - 1;
    }
    if (at.pending) put(at.low << (8 - at.pending));
  }
  std::uint64_t size() const { return size_; }
  // The first `size` bytes.
  std::vector<std::uint8_t>& cut(std::size_t size) {
    bytes_.resize(size);
    return bytes_;
  }

 private:
  // One byte; a value of 256 or more carries into the bytes before it.
  void put(std::uint64_t byte) {
    if (byte > 0xff) carry();
    if (size_ == bytes_.size()) grow();
    bytes_[size_++] = static_cast<std::uint8_t>(byte);
  }
  void grow() { bytes_.resize(bytes_.size() + bytes_.size() / 2 + 64); }
  void carry() {
    for (std::size_t i = size_; i-- > 0 && ++bytes_[i] == 0;) {
    }
  }

  std::vector<std::uint8_t> bytes_;  // with room at the end
  std::size_t size_ = 0;
};

}  // namespace nnc
