// Paths through the 8-state trellis of dependent quantization: decisions, and the way back.
//
// Slots: the four candidate multiples lo..lo+3 of a weight, addressed by multiple & 3. Every state is reached from two
// predecessors; one comes over an even level (whose multiple is 0 or in slot 0 or 3), the other over an odd one (slot 2
// or 1).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "contexts.h"
#include "cpu.h"

namespace nnc {

// Decisions of one weight: bit i (0..7): into state i over the odd level; bit 8 + i: the even branch is the zero branch.
using Decision = std::uint16_t;

inline constexpr std::uint8_t kEvenFrom[8] = {0, 2, 4, 6, 7, 5, 3, 1};
inline constexpr std::uint8_t kOddFrom[8] = {4, 6, 0, 2, 3, 1, 7, 5};
inline constexpr std::uint8_t kEvenSlot[8] = {0, 0, 0, 0, 3, 3, 3, 3};
inline constexpr std::uint8_t kOddSlot[8] = {2, 2, 2, 2, 1, 1, 1, 1};

inline std::int32_t lowest_candidate(double o) {
  const std::int32_t whole = static_cast<std::int32_t>(o);
  return whole > 2 ? whole - 1 : 1;
}
inline std::int32_t in_slot(std::int32_t lo, std::int32_t slot) { return lo + ((slot - lo) & 3); }

// Predecessors of all states in one word, four bits each: index 2 * state + (over the odd level).
constexpr std::uint64_t packed_predecessors() {
  std::uint64_t word = 0;
  for (int s = 0; s < 8; ++s)
    word |= std::uint64_t{kEvenFrom[s]} << (8 * s) | std::uint64_t{kOddFrom[s]} << (8 * s + 4);
  return word;
}
// Slots likewise: 2 bits each, index as above.
constexpr std::uint32_t packed_slots() {
  std::uint32_t word = 0;
  for (int s = 0; s < 8; ++s)
    word |= std::uint32_t{kEvenSlot[s]} << (4 * s) | std::uint32_t{kOddSlot[s]} << (4 * s + 2);
  return word;
}

// Steps back through decisions [0, n) from `state`, filling `choice` with the slot, or 4 for the zero branch.
struct Trace {
  const Decision* decisions;
  std::uint8_t* choice;
  unsigned state;

  NNC_INLINE void step(std::size_t i) {
    const unsigned decision = decisions[i] >> state;
    const unsigned over_odd = decision & 1u;
    const unsigned zero = (decision >> 8) & ~decision & 1u;
    const unsigned index = 2 * state + over_odd;
    choice[i] = static_cast<std::uint8_t>((packed_slots() >> (2 * index) & 3u) | zero << 2);
    state = static_cast<unsigned>(packed_predecessors() >> (4 * index)) & 7u;
  }
};

// The path that ends best. Survivors of a state soon share their past, so four stretches are traced at a time, each from
// a guess some way after its end; a guess that does not lead to where the stretch after it starts is traced again.
inline constexpr std::size_t kStretches = 4;
inline constexpr std::size_t kShortest = 256;  // stretch worth the guess
inline constexpr std::size_t kLongestLead = 2048;  // zeros keep survivors apart for long

template <class Cost>
NNC_INLINE void trace_back(std::size_t n, const Cost* cost, const Decision* decisions, std::uint8_t* choice) {
  unsigned last = 0;
  for (unsigned s = 1; s < 8; ++s)
    if (cost[s] < cost[last]) last = s;
  const std::size_t length = n / kStretches;
  const std::size_t lead = std::min(length / 4, kLongestLead);
  if (length < kShortest) {
    Trace trace{decisions, choice, last};
    for (std::size_t i = n; i-- > 0;) trace.step(i);
    return;
  }
  Trace trace[kStretches];
  unsigned entered[kStretches];  // state at the end of each stretch
  for (std::size_t k = 0; k < kStretches; ++k) {
    const std::size_t end = k + 1 == kStretches ? n : (k + 1) * length;
    trace[k] = {decisions, choice, k + 1 == kStretches ? last : 0};
    if (k + 1 < kStretches)
      for (std::size_t i = end + lead; i-- > end;) trace[k].step(i);
    else
      for (std::size_t i = end; i-- > kStretches * length;) trace[k].step(i);
    entered[k] = trace[k].state;
  }
  Trace a = trace[0], b = trace[1], c = trace[2], d = trace[3];
  for (std::size_t i = length; i-- > 0;) {
    a.step(i);
    b.step(i + length);
    c.step(i + 2 * length);
    d.step(i + 3 * length);
  }
  const unsigned left[kStretches] = {a.state, b.state, c.state, d.state};
  unsigned state = left[kStretches - 1];
  for (std::size_t k = kStretches - 1; k-- > 0;) {
    if (entered[k] == state) {
      state = left[k];
      continue;
    }
    Trace again{decisions, choice, state};
    for (std::size_t i = (k + 1) * length; i-- > k * length;) again.step(i);
    state = again.state;
  }
}

NNC_INLINE std::int32_t multiple_at(float w, double scale, std::uint8_t choice) {
  const std::int32_t lo = lowest_candidate(std::fabs(scale * static_cast<double>(w)));
  const std::int32_t m = in_slot(lo, choice & 3) & ((choice >> 2) - 1);
  return w < 0 ? -m : m;
}
NNC_INLINE void to_multiples(const float* w, std::size_t n, double scale, const std::uint8_t* choice, std::int32_t* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = multiple_at(w[i], scale, choice[i]);
}

// trace_back() and to_multiples() as this processor does them best.
#ifdef NNC_AVX2
template <class Cost>
NNC_TARGET_AVX2 void trace_back_avx2(std::size_t n, const Cost* cost, const Decision* decisions, std::uint8_t* choice) {
  trace_back(n, cost, decisions, choice);
}
NNC_TARGET_AVX2 inline void to_multiples_avx2(const float* w, std::size_t n, double scale, const std::uint8_t* choice,
                                              std::int32_t* out) {
  to_multiples(w, n, scale, choice, out);
}
#endif
template <class Cost>
void best_trace(std::size_t n, const Cost* cost, const Decision* decisions, std::uint8_t* choice) {
#ifdef NNC_AVX2
  if (has_avx2()) return trace_back_avx2(n, cost, decisions, choice);
#endif
  trace_back(n, cost, decisions, choice);
}
inline void best_multiples(const float* w, std::size_t n, double scale, const std::uint8_t* choice, std::int32_t* out) {
#ifdef NNC_AVX2
  if (has_avx2()) return to_multiples_avx2(w, n, scale, choice, out);
#endif
  to_multiples(w, n, scale, choice, out);
}

// False if a weight is not finite or its integer would not fit with room for the four candidates.
inline bool trellis_fits(const float* weights, std::size_t count, float step) {
  // The order of magnitudes is that of their bits, with infinity and NaN at the top.
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::int32_t bits;
    std::memcpy(&bits, weights + i, sizeof bits);
    largest = std::max(largest, bits & 0x7fffffff);
  }
  float magnitude;
  std::memcpy(&magnitude, &largest, sizeof magnitude);
  return (1.0f / step) * magnitude <= 2147483520.0f;  // false for NaN
}

// Calls take(weights, count) on all weights in coding order, a multiple of kBuffered of them at a time until the last ones.
// Those of a scan in blocks pass through a small buffer, so that no second copy of the tensor is made.
inline constexpr std::size_t kBuffered = 4096;

template <class Take>
void in_coding_order(const float* weights, const TensorCoding& coding, Take&& take) {
  if (coding.effective_scan() == 0) {
    take(weights, static_cast<std::size_t>(coding.rows * coding.cols));
    return;
  }
  float buffer[kBuffered];
  std::size_t held = 0;
  for_each_segment(coding.rows, coding.cols, coding.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool) {
                     const float* from = weights + y * coding.cols + x;
                     for (std::size_t left = static_cast<std::size_t>(width); left;) {
                       const std::size_t n = std::min(left, kBuffered - held);
                       std::copy(from, from + n, buffer + held);
                       from += n;
                       left -= n;
                       held += n;
                       if (held < kBuffered) continue;
                       take(static_cast<const float*>(buffer), held);
                       held = 0;
                     }
                     return true;
                   });
  if (held) take(static_cast<const float*>(buffer), held);
}

// Calls visit(first position in raster order, first position in coding order, count) on stretches that cover the tensor.
template <class Visit>
void in_raster_order(const TensorCoding& coding, Visit&& visit) {
  if (coding.effective_scan() == 0) {
    visit(std::size_t{0}, std::size_t{0}, static_cast<std::size_t>(coding.rows * coding.cols));
    return;
  }
  std::size_t done = 0;
  for_each_segment(coding.rows, coding.cols, coding.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool) {
                     visit(static_cast<std::size_t>(y * coding.cols + x), done, static_cast<std::size_t>(width));
                     done += static_cast<std::size_t>(width);
                     return true;
                   });
}

}  // namespace nnc
