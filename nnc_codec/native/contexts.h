// The context models of one tensor and the list in which their parameter sets are signalled.
#pragma once
#include <cstdint>
#include <vector>

#include "model.h"

namespace nnc {

// What the data unit header hands to the arithmetic coder for one tensor.
struct TensorCoding {
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  bool edition2 = true;               // general_profile_idc == 1
  bool dq = false;                    // dq_flag, 0 for integers and codebooks
  std::uint32_t unary_length = 10;    // cabac_unary_length_minus1 + 1
  std::uint32_t scan_order = 0;
  bool parent_present = false;        // parent_node_id_present_flag
  std::uint64_t codebook_size = 0;    // 0: no codebook
  std::uint64_t codebook_zero = 0;
  const std::int32_t* reference = nullptr;  // temporal context: integers of the previous update, rows * cols
  const std::uint8_t* history = nullptr;    // 1 where an earlier update was not zero, rows * cols
  unsigned esc_indices = 31;          // 32: payload of NNCodec 0.x, which also clamps before a lone block row

  bool matrix() const { return rows > 1 && cols > 1; }
  std::uint32_t effective_scan() const { return matrix() ? scan_order : 0; }
  // Edition-1 streams do not use the codebook for entropy coding.
  std::uint64_t bound_size() const { return edition2 ? codebook_size : 0; }
  bool temporal() const { return edition2 && reference != nullptr; }
  bool codes_tools() const { return edition2 && matrix() && bound_size() != 1; }
  // Largest magnitude of a negative or positive level.
  std::uint64_t top(bool negative) const {
    if (!bound_size()) return ~std::uint64_t{0};
    return negative ? codebook_zero : codebook_size - 1 - codebook_zero;
  }
};

// Model indices. The order is that of the reference software, which tests rely on.
struct ContextLayout {
  explicit ContextLayout(std::uint32_t unary_length = 10)
      : gt(53), gtr(53 + 2 * unary_length), esc(53 + 4 * unary_length), idf(esc + 31), row(esc + 32), spare(esc + 33), count(esc + 34) {}
  static constexpr std::uint32_t sig = 0;     // 3 * state + neighbour
  static constexpr std::uint32_t sigr = 24;   // 2 * state + class of the reference
  static constexpr std::uint32_t sigh = 40;   // state
  static constexpr std::uint32_t sign = 48;   // neighbour
  static constexpr std::uint32_t signr = 51;  // sign of the reference
  std::uint32_t gt, gtr;                      // 2 * j + class
  std::uint32_t esc, idf, row;
  std::uint32_t spare;  // target of the 32nd ESC index of NNCodec 0.x, never used for coding
  std::uint32_t count;
};

// Calls visit(model index) for every model whose parameter set index is in the stream, in stream order.
template <class Visit>
void for_each_signalled(const TensorCoding& t, bool hist_on, const ContextLayout& c, Visit&& visit) {
  const std::uint64_t size = t.bound_size();
  if (size != 1) {
    const std::uint32_t states = t.dq ? 8 : 1;
    for (std::uint32_t i = 0; i < 3 * states; ++i) visit(c.sig + i);
    if (t.temporal())
      for (std::uint32_t i = 0; i < 2 * states; ++i) visit(c.sigr + i);
    if (hist_on)
      for (std::uint32_t i = 0; i < states; ++i) visit(c.sigh + i);
    const bool one_sided = size != 0 && (t.codebook_zero == 0 || t.codebook_zero == size - 1);
    if (!one_sided) {
      for (std::uint32_t i = 0; i < 3; ++i) visit(c.sign + i);
      if (t.temporal())
        for (std::uint32_t i = 0; i < 2; ++i) visit(c.signr + i);
    }
  }
  const std::uint64_t low = t.top(true), high = t.top(false);
  const std::uint64_t big = size ? (low > high ? low : high) : ~std::uint64_t{0};
  const auto below = [big](std::uint64_t a, std::uint64_t less) {
    return big == ~std::uint64_t{0} || (big >= less && a < 2 * (big - less));
  };
  for (std::uint32_t a = 0; a < 2 * t.unary_length; ++a)
    if (below(a, 0)) visit(c.gt + a);
  if (t.temporal())
    for (std::uint32_t a = 0; a < 2 * t.unary_length; ++a)
      if (below(a, 1)) visit(c.gtr + a);
  for (std::uint32_t k = 0; k < t.esc_indices; ++k)
    if (t.unary_length + (std::uint64_t{2} << k) - 2 < big) visit(k < 31 ? c.esc + k : c.spare);
}

// Position-dependent model choice, shared by decoder, encoder and the parameter-set search.
struct LevelContext {
  std::uint32_t sig, sign, gt;
  bool reference;  // gt depends on j and `magnitude`, not on the sign
  std::uint64_t magnitude;
};

inline std::uint32_t neighbour_class(std::int32_t prev) { return prev == 0 ? 0u : prev < 0 ? 1u : 2u; }
inline std::uint64_t magnitude_of(std::int32_t v) {
  return v < 0 ? 0u - static_cast<std::uint32_t>(v) : static_cast<std::uint32_t>(v);
}

inline LevelContext level_context(const ContextLayout& c, std::uint32_t state, std::int32_t prev, std::int32_t reference,
                                  bool history) {
  const std::uint32_t nb = neighbour_class(prev);
  const std::uint64_t r = magnitude_of(reference);
  LevelContext k{};
  k.reference = reference != 0;
  k.magnitude = r;
  k.sig = history ? c.sigh + state : k.reference ? c.sigr + 2 * state + (r > 1) : c.sig + 3 * state + nb;
  k.sign = k.reference ? c.signr + (reference > 0) : c.sign + nb;
  return k;
}
inline std::uint32_t greater_model(const ContextLayout& c, const LevelContext& k, std::uint32_t j, bool negative) {
  return k.reference ? c.gtr + 2 * j + (k.magnitude < j) : c.gt + 2 * j + negative;
}

// Row segments in coding order: rows for scan order 0, block rows of square blocks otherwise.
// visit(row, first column, columns, starts a block row other than the first) returns false to stop.
template <class Visit>
void for_each_segment(std::uint64_t rows, std::uint64_t cols, std::uint32_t scan, Visit&& visit) {
  if (scan == 0) {
    for (std::uint64_t y = 0; y < rows; ++y)
      if (!visit(y, std::uint64_t{0}, cols, false)) return;
    return;
  }
  const std::uint64_t block = std::uint64_t{4} << scan;
  for (std::uint64_t top = 0; top < rows; top += block) {
    bool starts = top != 0;
    for (std::uint64_t left = 0; left < cols; left += block) {
      const std::uint64_t width = cols - left < block ? cols - left : block;
      for (std::uint64_t y = top; y < rows && y < top + block; ++y) {
        if (!visit(y, left, width, starts)) return;
        starts = false;
      }
    }
  }
}

inline std::uint64_t block_rows(const TensorCoding& t) {
  if (!t.effective_scan()) return 1;
  const std::uint64_t block = std::uint64_t{4} << t.effective_scan();
  return (t.rows + block - 1) / block;
}

// State after `count` even levels (the zeros of a skipped row).
inline std::uint32_t skip_state(std::uint32_t state, std::uint64_t count) {
  for (std::uint64_t i = count & 3; i; --i) state = kNextState[state][0];
  return state;
}

}  // namespace nnc
