// Arithmetic encoder. The codeword is one big binary number; carries are walked back into bytes already written.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"
#include "model.h"
#include "zero_runs.h"

namespace nnc {

class ArithEncoder {
 public:
  void bin(Model& m, unsigned bit) {
    const std::uint16_t one = bin_of(0, bit);
    bins(&m, &one, 1);
  }

  // A list of bin_of().
  void bins(Model* models, const std::uint16_t* list, std::size_t count) { code(models, list, count); }
#ifdef NNC_AVX2
  NNC_TARGET_AVX2 void bins_avx2(Model* models, const std::uint16_t* list, std::size_t count) { code(models, list, count); }
#endif

  // A run of zeros that goes around `length` = 1, 2 or 4 models, given by index.
  void zeros(Model* models, const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    code_zeros(models, cycle, length, count);
  }
#ifdef NNC_AVX2
  NNC_TARGET_AVX2 void zeros_avx2(Model* models, const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    code_zeros(models, cycle, length, count);
  }
#endif

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
  static constexpr std::uint64_t kTail = 16;  // zeros worth the preparations of take_tails()

  // Free of branches on the bins. The width is held at the top of its register, so that what it takes to renormalise is
  // the number of its leading zeros.
  NNC_INLINE void code(Model* models, const std::uint16_t* list, std::size_t count) {
    constexpr unsigned kTop = 64 - 9;
    std::uint64_t low = low_, width = std::uint64_t{width_} << kTop;
    unsigned pending = pending_;
    for (const std::uint16_t* const end = list + count; list != end; ++list) {
      const std::uint64_t entry = *list;
      const std::int64_t bit = static_cast<std::int64_t>(entry & 1u);
      Model& m = models[entry >> kBinBits];
      const std::uint64_t is_mps = static_cast<std::uint64_t>(m.q >> 63) ^ static_cast<std::uint64_t>(-bit);  // all ones or zero
      const std::uint64_t lps = (m.row >> ((width >> (kTop + 2)) & 0x38u) & 0xffu) << kTop;
      low += ((width - lps) & ~is_mps) >> kTop;
      const std::uint64_t next = ((width & is_mps) - is_mps) + (lps ^ is_mps);  // width - lps or lps
      const unsigned n = static_cast<unsigned>(__builtin_clzll(next));
      width = next << n;
      low <<= n;
      pending += n;
      m.update(bit);
      if (__builtin_expect(pending > 40, 0)) {
        low_ = low;
        pending_ = pending;
        flush();
        low = low_;
        pending = pending_;
      }
    }
    low_ = low;
    pending_ = pending;
    width_ = static_cast<std::uint32_t>(width >> kTop);
  }
  NNC_INLINE void code_zeros(Model* models, const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    if (length == 1)
      code_zeros_of<1>(models, cycle, count);
    else if (length == 2)
      code_zeros_of<2>(models, cycle, count);
    else
      code_zeros_of<4>(models, cycle, count);
  }
  template <unsigned Length>
  NNC_INLINE void code_zeros_of(Model* models, const std::uint32_t* cycle, std::uint64_t count) {
    Model local[Length];  // one model stays in registers
    Model* at[Length];
    for (unsigned j = 0; j < Length; ++j) {
      local[j] = models[cycle[j]];
      at[j] = local + j;
    }
    std::uint64_t low = low_;
    std::uint32_t width = width_;
    unsigned pending = pending_;
    std::uint64_t i = 0;
    for (; i < count; ++i) {
      Model& m = local[i % Length];
      if (count - i >= kTail && in_tail(m) && all_in_tail<Length>(at)) break;
      const std::uint32_t lps = static_cast<std::uint32_t>(m.row >> ((width >> 2) & 0x38u)) & 0xffu;
      const std::uint32_t rest = width - lps;
      if (__builtin_expect(m.q < 0, 1)) {
        const unsigned shift = (rest >> 8) ^ 1u;
        width = rest << shift;
        low <<= shift;
        pending += shift;
      } else {
        const unsigned n = static_cast<unsigned>(__builtin_clz(lps)) - 23u;
        width = lps << n;
        low = (low + rest) << n;
        pending += n;
      }
      m.update(0);
      if (__builtin_expect(pending > 40, 0)) {
        low_ = low;
        pending_ = pending;
        flush();
        low = low_;
        pending = pending_;
      }
    }
    low_ = low;
    width_ = width;
    pending_ = pending;
    std::uint16_t rest[4];
    std::size_t n = 0;
    if (i < count) {
      Model* from[4];
      for (unsigned j = 0; j < 4; ++j) from[j] = local + (i + j) % Length;
      TailCoder coder{*this};
      i += take_tails<Length>(from, count - i, coder);
      // The last ones are fewer than four.
      for (; i < count; ++i) rest[n++] = bin_of(cycle[i % Length], 0);
    }
    for (unsigned j = 0; j < Length; ++j) models[cycle[j]] = local[j];
    code(models, rest, n);
  }
  // Coder of take_tails().
  struct TailCoder {
    ArithEncoder& owner;
    NNC_INLINE bool four(const std::uint8_t* first, const std::uint8_t* second) {
      const std::uint32_t before = owner.width_ - 256;
      const std::uint32_t after = second[first[before]];
      const unsigned shift = after > before;
      owner.width_ = after + 256;
      owner.low_ <<= shift;
      owner.pending_ += shift;
      if (__builtin_expect(owner.pending_ > 40, 0)) owner.flush();
      return true;
    }
    // All of them.
    NNC_INLINE std::size_t run(std::size_t limit) {
      owner.jump_zeros(limit);
      return limit;
    }
  };
  // Zeros of models with the smallest LPS widths.
  NNC_INLINE void jump_zeros(std::uint64_t count) {
    for (;;) {
      const std::uint64_t run = kZeroRuns.count[width_ - 256];
      if (run > count) break;
      count -= run;
      width_ = std::uint32_t{kZeroRuns.last[width_ - 256]} << 1;
      low_ <<= 1;
      ++pending_;
      if (__builtin_expect(pending_ > 40, 0)) flush();
    }
    for (int j = 6; j >= 0; --j)
      if (count >> j & 1u) width_ = kZeroRuns.after[j][width_ - 256];
  }
  // Moves whole bytes out of the register, at least 9 bits stay.
  void flush() {
    const unsigned bytes = (pending_ - 17) / 8;
    pending_ -= 8 * bytes;
    const std::uint64_t moved = low_ >> pending_;
    low_ &= (std::uint64_t{1} << pending_) - 1;
    const std::size_t at = out_.size();
    if (moved >> (8 * bytes)) carry();
    out_.resize(at + bytes);
    for (unsigned i = 0; i < bytes; ++i) out_[at + i] = static_cast<std::uint8_t>(moved >> (8 * (bytes - 1 - i)));
  }
  // Appends one byte; a value of 256 or more carries into the bytes before it.
  void put(std::uint64_t byte) {
    if (byte > 0xff) carry();
    out_.push_back(static_cast<std::uint8_t>(byte));
  }
  void carry() {
    for (std::size_t i = out_.size(); i-- > 0 && ++out_[i] == 0;) {
    }
  }

  std::vector<std::uint8_t> out_;
  std::uint64_t low_ = 0;
  unsigned pending_ = 9;  // bits of low_ not written yet
  std::uint32_t width_ = 510;
};

}  // namespace nnc
