// Arithmetic decoder over (pointer, length). Past the end it reads zeros; `overrun()` tells.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu.h"
#include "model.h"
#include "zero_runs.h"

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

  // One adaptive bin. The only branch is on its value: branching on "less probable", too, would miss twice where the
  // more probable symbol keeps changing. Both arms know the bit, so the width follows from the model alone.
  NNC_INLINE unsigned bin(Model& m) {
    const std::uint32_t lps = lps_of(m.row);
    const std::uint64_t scaled = static_cast<std::uint64_t>(width_ - lps) << kShift;
    const std::uint64_t rather_zero = static_cast<std::uint64_t>(m.q >> 63);  // all ones or zero
    if ((m.q ^ static_cast<std::int64_t>(value_ - scaled)) < 0) {
      value_ -= scaled & rather_zero;
      take(part(lps, ~static_cast<std::uint32_t>(rather_zero)));
      m.update(1);
      refill_if_low();
      return 1;
    }
    value_ -= scaled & ~rather_zero;
    take(part(lps, static_cast<std::uint32_t>(rather_zero)));
    m.update(0);
    refill_if_low();
    return 0;
  }

  // The same without any branch on the outcome, for bins that are a coin toss.
  NNC_INLINE unsigned bin_even(Model& m) {
    const std::uint64_t lps = lps_of(m.row);
    const std::uint64_t mps_width = width_ - lps;
    const std::uint64_t scaled = mps_width << kShift;
    const std::int64_t rest = static_cast<std::int64_t>(value_ - scaled);
    const std::uint64_t is_mps = static_cast<std::uint64_t>(rest >> 63);  // all ones or zero
    value_ = static_cast<std::uint64_t>(rest) + (scaled & is_mps);
    take(static_cast<std::uint32_t>(lps ^ ((lps ^ mps_width) & is_mps)));
    const unsigned bit = static_cast<unsigned>(static_cast<std::uint64_t>(m.q ^ rest) >> 63);
    m.update(bit);
    refill_if_low();
    return bit;
  }

  // Up to `limit` zeros that go around `Length` = 1, 2 or 4 models, all of them in their tails. Returns their number; if
  // it is below `limit`, a one followed them.
  template <unsigned Length>
  NNC_INLINE std::size_t tail_zeros(Model* const* cycle, std::size_t limit) {
    std::size_t n = take_tails<Length>(cycle, limit, *this);
    while (n < limit && bet_on_zero(*cycle[n % Length])) ++n;
    return n;
  }
  // The same of one model, wherever it is.
  NNC_INLINE std::size_t zeros(Model& m, std::size_t limit) {
    std::size_t n = 0;
    while (n < limit) {
      if (!skewed_to_zero(m)) {
        if (bin(m)) return n;
        ++n;
        continue;
      }
      Model local = m;
      bool zero = true;
      while (n < limit && zero) {
        Model* const cycle[1] = {&local};
        if (all_in_tail<1>(cycle)) {
          n += tail_zeros<1>(cycle, limit - n);
          m = local;
          return n;
        }
        zero = bet_on_zero(local);
        n += zero;
      }
      m = local;
      if (!zero) return n;
    }
    return n;
  }

  // One bin of a model that is skewed to one value; true for this value. Right guesses cost next to nothing.
  static bool skewed_to_zero(const Model& m) { return m.q < -128 * (kSkewed - 1); }
  static bool skewed_to_one(const Model& m) { return m.q >= 128 * kSkewed; }
  NNC_INLINE bool bet_on_zero(Model& m) { return bet<0>(m); }
  NNC_INLINE bool bet_on_one(Model& m) { return bet<1>(m); }

  // n <= 32 equiprobable bins, most significant first. Up to eight of them are the quotient of what they lie in and the width.
  NNC_INLINE std::uint32_t bypass(unsigned n) {
    std::uint32_t result = 0;
    while (n) {
      const unsigned count = n < 8 ? n : 8;
      const unsigned scale = kShift - count;
      const std::uint32_t bits = static_cast<std::uint32_t>((value_ >> scale) * kReciprocals[width_ & 255] >> kReciprocalBits);
      value_ = (value_ - (static_cast<std::uint64_t>(bits * width_) << scale)) << count;
      valid_ -= static_cast<int>(count);
      refill_if_low();
      result = result << count | bits;
      n -= count;
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

  // For take_tails(): four zeros, by the tables of two pairs; false if a one is among them.
  NNC_INLINE bool four(const std::uint8_t* first, const std::uint8_t* second) {
    const std::uint64_t before = width_ - 256;
    const std::uint64_t after = second[first[before]];
    const unsigned shift = after > before;
    const std::uint64_t value = value_ << shift;
    if (__builtin_expect(value >= (after + 256) << kShift, 0)) return false;
    width_ = static_cast<std::uint32_t>(after + 256);
    value_ = value;
    valid_ -= static_cast<int>(shift);
    refill_if_low();
    return true;
  }
  // Up to `limit` zeros of models with the smallest LPS widths. Stops early only before a one.
  NNC_INLINE std::size_t run(std::size_t limit) {
    std::size_t n = 0;
    for (;;) {
      const std::size_t run = kZeroRuns.count[width_ - 256];
      const std::uint32_t last = kZeroRuns.last[width_ - 256];
      if (run > limit - n || value_ >= static_cast<std::uint64_t>(last) << kShift) break;
      n += run;
      width_ = last << 1;
      value_ <<= 1;
      --valid_;
      refill_if_low();
    }
    // What is left ends before the next renormalisation.
    for (int j = 6; j >= 0; --j) {
      const std::uint32_t w = kZeroRuns.after[j][width_ - 256];
      const bool fits = (std::size_t{1} << j) <= limit - n && value_ < static_cast<std::uint64_t>(w) << kShift;
      width_ = fits ? w : width_;
      n += static_cast<std::size_t>(fits) << j;
    }
    return n;
  }

  // Makes the position addressable; false if the window does not fit, which no encoder produces.
  bool clamp() {
    width_ = 256;
    return window() < 256;
  }
  std::uint32_t window() const { return static_cast<std::uint32_t>(value_ >> kShift); }
  // Position of the last clamp, as an entry point counts it.
  std::uint64_t mark() const { return pulled() - 9; }
  // Continues at an entry point.
  void jump(std::uint64_t offset, std::uint32_t window_value) {
    const std::uint64_t bit = offset + 9;
    const unsigned in_byte = static_cast<unsigned>(bit & 7);
    position_ = static_cast<std::size_t>(bit >> 3);
    value_ = (static_cast<std::uint64_t>(window_value) << kShift) | ((tail(data_, size_, position_) << in_byte) >> 10);
    position_ += 6;
    valid_ = 10 + 48 - static_cast<int>(in_byte);
    width_ = 256;
  }

  // Bits taken into the window so far.
  std::uint64_t pulled() const {
    return static_cast<std::uint64_t>(position_) * 8 - static_cast<std::uint64_t>(valid_ - 10);
  }
  // Bits of the data that were not.
  std::uint64_t left() const { return overrun() ? 0 : static_cast<std::uint64_t>(size_) * 8 - pulled(); }
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
  template <int Bit>
  NNC_INLINE bool bet(Model& m) {
    const std::uint32_t lps = lps_of(m.row);
    const std::uint32_t mps_width = width_ - lps;
    const std::uint64_t scaled = static_cast<std::uint64_t>(mps_width) << kShift;
    if (__builtin_expect(value_ < scaled, 1)) {
      const unsigned shift = (mps_width >> 8) ^ 1u;
      width_ = mps_width << shift;
      value_ <<= shift;
      valid_ -= static_cast<int>(shift);
      m.update(Bit);
      refill_if_low();
      return true;
    }
    value_ -= scaled;
    take(lps);
    m.update(1 - Bit);
    refill_if_low();
    return false;
  }

  friend class LevelAutomaton;

  static constexpr std::int64_t kSkewed = 8;  // LPS column from which on a model is worth betting on
  static constexpr int kShift = 54;  // one zero bit, then the 9-bit window, then look-ahead

  std::uint32_t lps_of(std::uint64_t row) const {
    return static_cast<std::uint32_t>(row >> ((width_ >> 2) & 0x38u)) & 0xffu;
  }
  // width_ - lps if `is_mps` is all ones, lps if it is zero. What does not wait for lps comes first.
  NNC_INLINE std::uint32_t part(std::uint32_t lps, std::uint32_t is_mps) const {
    return ((width_ & is_mps) - is_mps) + (lps ^ is_mps);
  }
  // Makes `width` (1..511) the width, renormalised.
  NNC_INLINE void take(std::uint32_t width) {
    const unsigned n = static_cast<unsigned>(__builtin_clz(width)) - 23u;
    width_ = width << n;
    value_ <<= n;
    valid_ -= static_cast<int>(n);
  }

  NNC_INLINE void refill_if_low() {
    if (__builtin_expect(valid_ < 18, 0)) refill();  // window, plus what one bin can take
  }
  NNC_INLINE void refill() {
    std::uint64_t next;
    if (__builtin_expect(position_ + 8 <= size_, 1))
      next = load_be64(data_ + position_);
    else
      next = tail(data_, size_, position_);
    value_ |= next >> valid_;
    const int bytes = (63 - valid_) >> 3;
    position_ += static_cast<std::size_t>(bytes);
    valid_ += 8 * bytes;
  }
  // The next 64 bits, zeros past the end. By value, so that a decoder can live in registers.
  static std::uint64_t tail(const std::uint8_t* data, std::size_t size, std::size_t position) {
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < 8; ++i) next = (next << 8) | (position + i < size ? data[position + i] : 0u);
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
