// Arithmetic decoder over (pointer, length). Past the end it reads zeros; `overrun()` tells.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "model.h"

namespace nnc {

inline std::uint64_t load_be64(const std::uint8_t* p) {
  std::uint64_t x;
  std::memcpy(&x, p, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  return x;
}

class ArithDecoder {
 public:
  ArithDecoder() = default;
  ArithDecoder(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    refill();
  }

  // One adaptive bin.
  unsigned bin(Model& m) {
    const std::uint32_t lps = lps_of(m);
    const std::uint32_t mps_width = width_ - lps;
    const std::uint64_t scaled = static_cast<std::uint64_t>(mps_width) << kShift;
    unsigned bit = m.mps;
    if (__builtin_expect(value_ < scaled, 1)) {
      const unsigned n = (mps_width >> 8) ^ 1u;
      width_ = mps_width << n;
      value_ <<= n;
      valid_ -= static_cast<int>(n);
    } else {
      value_ -= scaled;
      const unsigned n = static_cast<unsigned>(__builtin_clz(lps)) - 23u;
      width_ = lps << n;
      value_ <<= n;
      valid_ -= static_cast<int>(n);
      bit ^= 1u;
    }
    m.update(bit);
    refill_if_low();
    return bit;
  }

  // The same without a branch on the outcome, for bins that are a coin toss.
  unsigned bin_even(Model& m) {
    const std::uint32_t lps = lps_of(m);
    const std::uint32_t mps_width = width_ - lps;
    const std::uint64_t scaled = static_cast<std::uint64_t>(mps_width) << kShift;
    const unsigned is_lps = value_ >= scaled;
    const std::uint32_t mask = 0u - is_lps;
    value_ -= scaled & (0ull - is_lps);
    const std::uint32_t w = (lps & mask) | (mps_width & ~mask);
    const unsigned n = static_cast<unsigned>(__builtin_clz(w)) - 23u;
    width_ = w << n;
    value_ <<= n;
    valid_ -= static_cast<int>(n);
    const unsigned bit = m.mps ^ is_lps;
    m.update(bit);
    refill_if_low();
    return bit;
  }

  // n <= 32 equiprobable bins, most significant first.
  std::uint32_t bypass(unsigned n) {
    std::uint32_t result = 0;
    const std::uint64_t scaled = static_cast<std::uint64_t>(width_) << kShift;
    for (; n; --n) {
      value_ <<= 1;
      --valid_;
      const unsigned bit = value_ >= scaled;
      value_ -= scaled & (0ull - bit);
      result = (result << 1) | bit;
      refill_if_low();
    }
    return result;
  }

  bool terminate() {
    width_ -= 2;
    if (window() >= width_) return true;
    if (width_ < 256) {
      width_ <<= 1;
      value_ <<= 1;
      --valid_;
      refill_if_low();
    }
    return false;
  }

  // Decodes up to `limit` zeros of a model that no longer moves, all within one width class; returns how many.
  std::uint64_t skip_zeros(const Model& m, std::uint64_t limit) {
    const std::uint32_t lps = lps_of(m);
    const std::uint32_t in_class = (width_ & 31u) / lps;
    const std::uint32_t w = window();
    const std::uint32_t in_window = w < width_ ? (width_ - 1u - w) / lps : 0;
    std::uint64_t t = in_class < in_window ? in_class : in_window;
    if (t > limit) t = limit;
    width_ -= static_cast<std::uint32_t>(t) * lps;
    return t;
  }

  // Makes the position addressable; false if the window does not fit, which no encoder produces.
  bool clamp() {
    width_ = 256;
    return window() < 256;
  }
  // Position of the last clamp, as an entry point counts it.
  std::uint64_t mark() const { return pulled() - 9; }
  // Continues at an entry point.
  void jump(std::uint64_t offset, std::uint32_t window_value) {
    const std::uint64_t bit = offset + 9;
    const unsigned in_byte = static_cast<unsigned>(bit & 7);
    position_ = static_cast<std::size_t>(bit >> 3);
    value_ = (static_cast<std::uint64_t>(window_value) << kShift) | ((peek() << in_byte) >> 10);
    position_ += 6;
    valid_ = 10 + 48 - static_cast<int>(in_byte);
    width_ = 256;
  }

  // Bits taken into the window so far.
  std::uint64_t pulled() const {
    return static_cast<std::uint64_t>(position_) * 8 - static_cast<std::uint64_t>(valid_ - 10);
  }
  // Where to point at in an error: no further than the end of the data.
  std::uint64_t place() const {
    const std::uint64_t end = static_cast<std::uint64_t>(size_) * 8;
    return pulled() < end ? pulled() : end;
  }
  bool overrun() const { return pulled() > static_cast<std::uint64_t>(size_) * 8; }

  // After terminate(): the last pulled bit is 1, the rest of its byte is 0 and the data end with that byte.
  bool ends_cleanly() const {
    const std::uint64_t bits = pulled();
    if (bits == 0 || (bits + 7) / 8 != size_) return false;
    const unsigned used = static_cast<unsigned>((bits - 1) & 7) + 1;  // bits used of the last byte
    const unsigned tail = data_[size_ - 1] & ((1u << (8 - used + 1)) - 1u);
    return tail == (1u << (8 - used));
  }

 private:
  static constexpr int kShift = 54;  // one zero bit, then the 9-bit window, then look-ahead

  std::uint32_t window() const { return static_cast<std::uint32_t>(value_ >> kShift); }
  std::uint32_t lps_of(const Model& m) const {
    return static_cast<std::uint32_t>(m.row >> ((width_ >> 2) & 0x38u)) & 0xffu;
  }

  void refill_if_low() {
    if (__builtin_expect(valid_ < 18, 0)) refill();  // window, plus what one bin can take
  }
  void refill() {
    value_ |= peek() >> valid_;
    const int bytes = (63 - valid_) >> 3;
    position_ += static_cast<std::size_t>(bytes);
    valid_ += 8 * bytes;
  }
  // The next 64 bits, zeros past the end.
  std::uint64_t peek() const {
    if (__builtin_expect(position_ + 8 <= size_, 1)) return load_be64(data_ + position_);
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < 8; ++i) next = (next << 8) | (position_ + i < size_ ? data_[position_ + i] : 0u);
    return next;
  }

  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t position_ = 0;    // next byte to load; runs past size_ on truncated data
  std::uint64_t value_ = 0;
  int valid_ = 1;               // bits of value_ that hold data, the leading zero included
  std::uint32_t width_ = 510;
};

}  // namespace nnc
