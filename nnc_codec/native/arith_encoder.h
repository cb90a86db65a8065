// Arithmetic encoder.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "codeword.h"
#include "cpu.h"
#include "encoder_model.h"
#include "model.h"
#include "range_steps.h"
#include "step_groups.h"
#include "width_chains.h"
#include "zero_runs.h"

namespace nnc {

class ArithEncoder {
 public:
  void bin(EncoderModel& m, unsigned bit) {
    const std::uint16_t one = bin_of(0, bit);
    bins(&m, &one, 1);
  }

  // A list of bin_of().
  void bins(EncoderModel* models, const std::uint16_t* list, std::size_t count) { code(models, list, count); }
#ifdef NNC_AVX2
  NNC_TARGET_AVX2 void bins_avx2(EncoderModel* models, const std::uint16_t* list, std::size_t count) {
    code(models, list, count);
  }
#endif

#ifdef NNC_AVX2
  // Bins by their places among the stripes of RangeSteps. `scratch` has room for as many steps.
  NNC_TARGET_AVX2 void places_avx2(const std::uint8_t* places, std::size_t count, RangeStep* scratch) {
    const std::uint64_t width = walk_widths(range_steps(), places, count, at_.width, scratch);
    Interval at = at_;
    std::size_t i = 0;
    for (StepGroups groups; i + StepGroups::kSteps <= count; i += StepGroups::kSteps) {
      groups.join(scratch + i);
      for (const std::size_t place : StepGroups::kPlace) {
        at.raise(groups.shift[place], groups.added[place]);
        if (at.full()) code_.flush(at);
      }
    }
    for (; i < count; ++i) {
      at.raise(scratch[i]);
      if (at.full()) code_.flush(at);
    }
    at.width = width;
    at_ = at;
  }
#endif

  // A run of zeros that goes around `length` = 1, 2 or 4 models, given by index.
  void zeros(EncoderModel* models, const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    code_zeros(models, cycle, length, count);
  }
#ifdef NNC_AVX2
  NNC_TARGET_AVX2 void zeros_avx2(EncoderModel* models, const std::uint32_t* cycle, std::uint32_t length,
                                  std::uint64_t count) {
    code_zeros(models, cycle, length, count);
  }
#endif

  // `count` <= 32 equiprobable bins, most significant first.
  void bypass(std::uint32_t value, unsigned count) {
    while (count) {
      const unsigned n = count < 8 ? count : 8;
      count -= n;
      const std::uint64_t part = (value >> count) & ((1u << n) - 1u);
      at_.low = (at_.low << n) + part * (at_.width + 256);
      at_.pending += n;
      if (at_.full()) code_.flush(at_);
    }
  }

  void clamp() { at_.width = 0; }

  // Writes the terminate bin, the stop bit and the zero padding; returns the codeword.
  std::vector<std::uint8_t>& finish() {
    at_.low = (at_.low + at_.width + 254) | 1u;
    const std::uint64_t bits = shifts() + 9;
    code_.finish(at_);
    return code_.cut(static_cast<std::size_t>((bits + 7) / 8));
  }

  std::uint64_t shifts() const { return code_.size() * 8 + at_.pending - 9; }
  // Lowest 9 bits of the lower interval end, for entry points.
  std::uint32_t low9() const { return static_cast<std::uint32_t>(at_.low & 511u); }

 private:
  static constexpr std::uint64_t kTail = 16;  // zeros worth the preparations of take_tails()

  // Free of branches on the bins.
  NNC_INLINE void code(EncoderModel* models, const std::uint16_t* list, std::size_t count) {
    const RangeSteps& steps = range_steps();
    Interval at = at_;
    const std::uint16_t* const end = list + count;
    for (const std::uint16_t* const fours = list + count / 4 * 4; list != fours; list += 4) {
      for (unsigned i = 0; i < 4; ++i) at.take(step_of(models, list[i], steps, at.width));
      if (at.full()) code_.flush(at);
    }
    for (; list != end; ++list) {
      at.take(step_of(models, *list, steps, at.width));
      if (at.full()) code_.flush(at);
    }
    at_ = at;
  }
  static NNC_INLINE RangeStep step_of(EncoderModel* models, std::uint64_t bin, const RangeSteps& steps, std::uint64_t width) {
    return steps.stripe(models[bin >> kBinBits].move(static_cast<std::int64_t>(bin & 1u)))[width];
  }

  NNC_INLINE void code_zeros(EncoderModel* models, const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    if (length == 1)
      code_zeros_of<1>(models, cycle, count);
    else if (length == 2)
      code_zeros_of<2>(models, cycle, count);
    else
      code_zeros_of<4>(models, cycle, count);
  }
  template <unsigned Length>
  NNC_INLINE void code_zeros_of(EncoderModel* models, const std::uint32_t* cycle, std::uint64_t count) {
    Model local[Length];  // one model stays in registers
    Model* at[Length];
    for (unsigned j = 0; j < Length; ++j) {
      local[j] = models[cycle[j]].expanded();
      at[j] = local + j;
    }
    Interval interval = at_;
    std::uint64_t i = 0;
    for (; i < count; ++i) {
      Model& m = local[i % Length];
      if (count - i >= kTail && in_tail(m) && all_in_tail<Length>(at)) break;
      const std::uint64_t lps = m.row >> (interval.width >> 2 & 0x38u) & 0xffu;
      const std::uint64_t rest = interval.width + 256 - lps;
      if (__builtin_expect(m.q < 0, 1)) {
        interval.shift(rest, static_cast<unsigned>(rest >> 8) ^ 1u);
      } else {
        interval.low += rest;
        interval.shift(lps, static_cast<unsigned>(__builtin_clzll(lps)) - 55u);
      }
      m.update(0);
      if (interval.full()) code_.flush(interval);
    }
    at_ = interval;
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
    for (unsigned j = 0; j < Length; ++j) models[cycle[j]].take_over(local[j]);
    code(models, rest, n);
  }
  // Coder of take_tails().
  struct TailCoder {
    ArithEncoder& owner;
    NNC_INLINE bool four(const std::uint8_t* first, const std::uint8_t* second) {
      owner.at_.narrow(second[first[owner.at_.width]]);
      if (owner.at_.full()) owner.code_.flush(owner.at_);
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
      const std::uint64_t run = kZeroRuns.count[at_.width];
      if (run > count) break;
      count -= run;
      at_.width = 2u * kZeroRuns.last[at_.width] - 256;
      at_.low <<= 1;
      ++at_.pending;
      if (at_.full()) code_.flush(at_);
    }
    for (int j = 6; j >= 0; --j)
      if (count >> j & 1u) at_.width = kZeroRuns.after[j][at_.width] - 256u;
  }

  Codeword code_;
  Interval at_;
};

}  // namespace nnc
