// Arithmetic encoder. The codeword is one big binary number; carries are walked back into bytes already written.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model.h"

namespace nnc {

class ArithEncoder {
 public:
  void bin(Model& m, unsigned bit) {
    const std::uint32_t lps = static_cast<std::uint32_t>(m.row >> ((width_ >> 2) & 0x38u)) & 0xffu;
    const std::uint32_t mps_width = width_ - lps;
    const std::uint32_t is_lps = bit ^ static_cast<std::uint32_t>(m.q >= 0);
    const std::uint32_t mask = 0u - is_lps;
    low_ += mps_width & mask;
    const std::uint32_t w = (lps & mask) | (mps_width & ~mask);
    const unsigned n = static_cast<unsigned>(__builtin_clz(w)) - 23u;
    width_ = w << n;
    shift(n);
    m.update(bit);
  }

  // `count` <= 32 equiprobable bins, most significant first.
  void bypass(std::uint32_t value, unsigned count) {
    while (count) {
      const unsigned n = count < 8 ? count : 8;
      count -= n;
      const std::uint64_t part = (value >> count) & ((1u << n) - 1u);
      low_ = (low_ << n) + part * width_;
      pending_ += n;
      if (pending_ > 40) flush();
    }
  }

  void clamp() { width_ = 256; }

  // Writes the terminate bin, the stop bit and the zero padding; returns the codeword.
  std::vector<std::uint8_t>& finish() {
    width_ -= 2;
    low_ = (low_ + width_) | 1u;
    const std::uint64_t bits = shifts() + 9;
    while (pending_ > 8) {
      pending_ -= 8;
      put(low_ >> pending_);
      low_ &= (std::uint64_t{1} << pending_) - 1;
    }
    if (pending_) put(low_ << (8 - pending_));
    out_.resize(static_cast<std::size_t>((bits + 7) / 8));
    return out_;
  }

  std::uint64_t shifts() const { return static_cast<std::uint64_t>(out_.size()) * 8 + pending_ - 9; }
  // Lowest 9 bits of the lower interval end, for entry points.
  std::uint32_t low9() const { return static_cast<std::uint32_t>(low_ & 511u); }
  void reserve(std::size_t bytes) { out_.reserve(bytes); }

 private:
  void shift(unsigned n) {
    low_ <<= n;
    pending_ += n;
    if (__builtin_expect(pending_ > 40, 0)) flush();
  }
  // Moves whole bytes out of the register, at least 9 bits stay.
  void flush() {
    while (pending_ >= 17 + 8) {
      pending_ -= 8;
      put(low_ >> pending_);
      low_ &= (std::uint64_t{1} << pending_) - 1;
    }
  }
  // Appends one byte; a value of 256 or more carries into the bytes before it.
  void put(std::uint64_t byte) {
    if (byte > 0xff)
      for (std::size_t i = out_.size(); i-- > 0 && ++out_[i] == 0;) {
      }
    out_.push_back(static_cast<std::uint8_t>(byte));
  }

  std::vector<std::uint8_t> out_;
  std::uint64_t low_ = 0;
  unsigned pending_ = 9;  // bits of low_ not written yet
  std::uint32_t width_ = 510;
};

}  // namespace nnc
