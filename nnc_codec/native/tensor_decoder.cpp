#include "tensor_decoder.h"

#include <algorithm>
#include <cstring>

namespace nnc {

namespace {

constexpr std::size_t kChunk = 4096;  // integers decoded before they are handed on; stays in the first-level cache

// Magnitude above the unary part: exponential-Golomb with one model per prefix position.
inline std::uint64_t read_remainder(ArithDecoder& a, Model* esc, std::uint64_t magnitude, std::uint64_t top) {
  unsigned k = 0;
  while (k < 31 && (k == 0 || top >= magnitude + (std::uint64_t{1} << k))) {
    if (!a.bin(esc[k])) break;
    magnitude += std::uint64_t{1} << k;
    ++k;
  }
  return magnitude + a.bypass(k);
}

inline std::int32_t signed_level(std::uint64_t magnitude, bool negative) {
  const std::uint32_t low = static_cast<std::uint32_t>(magnitude);
  return static_cast<std::int32_t>(negative ? 0u - low : low);
}

// Integer that a level stands for in a state, 2 * level - sgn(level) * (state & 1), without overflow traps.
inline std::int32_t multiple_of(std::int32_t level, std::uint32_t state) {
  const std::uint32_t twice = static_cast<std::uint32_t>(level) * 2u;
  const std::uint32_t odd = level == 0 ? 0u : state & 1u;
  return static_cast<std::int32_t>(level < 0 ? twice + odd : twice - odd);
}

}  // namespace

TensorDecoder::TensorDecoder(ArithDecoder& decoder, const TensorCoding& coding)
    : decoder_(decoder), coding_(coding), layout_(coding.unary_length) {}

Status TensorDecoder::read_head() {
  models_.resize(layout_.count);
  for (Model& m : models_) m.load(0);
  if (coding_.codes_tools()) {
    if (coding_.parent_present || coding_.temporal()) hist_on_ = decoder_.bypass(1) != 0;
    if (hist_on_ && !coding_.history) return {Code::unsupported, "hist_dep_sig_prob_enabled_flag without a history map", decoder_.place()};
    has_skips_ = decoder_.bypass(1) != 0;
    if (has_skips_) {
      // A row list costs at least a hundredth of a bit per row, so a row count far above the payload is a forgery
      // that the caller's expansion limit has to stop before it gets here.
      skip_.resize(coding_.rows);
      for (std::uint64_t y = 0; y < coding_.rows; ++y) {
        skip_[y] = static_cast<std::uint8_t>(decoder_.bin(models_[layout_.row]));
        if ((y & 0xfff) == 0xfff && decoder_.overrun()) return {Code::truncated, "row_skip_list", decoder_.place()};
      }
    }
  }
  Model& idf = models_[layout_.idf];
  for_each_signalled(coding_, hist_on_, layout_, [&](std::uint32_t model) {
    const unsigned set = decoder_.bin(idf) ? 1 + decoder_.bypass(3) : 0;
    models_[model].load(set);
  });
  if (decoder_.overrun()) return {Code::truncated, "shift_idx_minus_1", decoder_.place()};
  const bool clamps = block_rows(coding_) >= 2 || (coding_.esc_indices == 32 && coding_.effective_scan());
  if (clamps && !decoder_.clamp()) return {Code::corrupt, "cabac window", decoder_.place()};
  return {};
}

Status TensorDecoder::read_levels(IntegerSink& sink) {
  state_ = 0;
  prev_ = 0;
  bool completed = true;
  if (coding_.bound_size() == 1) {
    completed = sink.zeros(0, coding_.rows * coding_.cols);
    return finish(completed);
  }
  for_each_segment(coding_.rows, coding_.cols, coding_.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool starts_block_row) {
                     if (starts_block_row) {
                       restart();
                       if (!decoder_.clamp()) {
                         status_ = {Code::corrupt, "cabac window", decoder_.place()};
                         return completed = false;
                       }
                     }
                     return completed = segment(y, x, width, sink);
                   });
  return finish(completed);
}

Status TensorDecoder::read_block_row(std::uint64_t block_row, const EntryPoint* entry, IntegerSink& sink) {
  const std::uint32_t scan = coding_.effective_scan();
  const std::uint64_t block = std::uint64_t{4} << scan;
  const std::uint64_t first = block_row * block;
  if (scan == 0 || first >= coding_.rows || (block_row != 0) != (entry != nullptr))
    return {Code::invalid_argument, "cabac_entry_point_list", 0};
  restart();
  state_ = 0;
  if (entry) {
    decoder_.jump(entry->offset, entry->window);
    state_ = entry->state & 7;
  }
  bool completed = true;
  const std::uint64_t rows = std::min(block, coding_.rows - first);
  if (coding_.bound_size() == 1) return finish(sink.zeros(first * coding_.cols, rows * coding_.cols));
  for_each_segment(rows, coding_.cols, scan, [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool) {
    return completed = segment(first + y, x, width, sink);
  });
  return finish(completed);
}

Status TensorDecoder::finish(bool completed) const {
  if (!status_.ok()) return status_;
  if (decoder_.overrun()) return {Code::truncated, "quant_tensor", decoder_.place()};
  if (!completed) return {Code::corrupt, "integer out of range", decoder_.place()};
  return {};
}

void TensorDecoder::restart() {
  for (Model& m : models_) m.restart();
  prev_ = 0;
}

bool TensorDecoder::segment(std::uint64_t y, std::uint64_t x, std::uint64_t width, IntegerSink& sink) {
  const std::uint64_t position = y * coding_.cols + x;
  if (has_skips_ && skip_[y]) {
    // The state advances by the full row length even for a segment of it.
    if (coding_.dq) state_ = skip_state(state_, coding_.cols);
    return sink.zeros(position, width);
  }
  std::int32_t chunk[kChunk];
  for (std::uint64_t done = 0; done < width;) {
    const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, width - done));
    levels(chunk, count, position + done);
    if (decoder_.overrun()) {
      status_ = {Code::truncated, "quant_tensor", decoder_.place()};
      return false;
    }
    if (!sink.write(position + done, chunk, count)) return false;
    done += count;
  }
  return true;
}

void TensorDecoder::levels(std::int32_t* out, std::size_t count, std::uint64_t position) {
  if (coding_.bound_size() || coding_.temporal() || hist_on_)
    general(out, count, position);
  else if (coding_.dq)
    plain<true>(out, count);
  else
    plain<false>(out, count);
}

// Unbounded levels with neighbour contexts only: nearly every stream.
template <bool DQ>
void TensorDecoder::plain(std::int32_t* out, std::size_t count) {
  ArithDecoder a = decoder_;
  Model* const models = models_.data();
  Model* const sig = models + ContextLayout::sig;
  Model* const sign = models + ContextLayout::sign;
  Model* const gt = models + layout_.gt;
  Model* const esc = models + layout_.esc;
  const std::uint32_t unary = coding_.unary_length;
  std::uint32_t state = DQ ? state_ : 0;
  std::int32_t prev = prev_;
  std::size_t i = 0;
  while (i < count) {
    if (prev == 0) {
      // Run of zeros: the neighbour stays, the state walks the cycle of even levels.
      bool hit = false;
      if (!DQ || kNextState[state][0] == state) {
        Model m = sig[3 * state];
        while (i < count) {
          if (a.bin(m)) {
            hit = true;
            break;
          }
          out[i++] = 0;
          if (static_cast<std::uint8_t>(m.row) == 2 && m.stands_still_on_zero()) {
            const std::uint64_t zeros = a.skip_zeros(m, count - i);
            std::memset(out + i, 0, zeros * sizeof(std::int32_t));
            i += zeros;
          }
        }
        sig[3 * state] = m;
      } else {
        while (i < count) {
          Model& m = sig[3 * state];
          if (a.bin(m)) {
            hit = true;
            break;
          }
          out[i++] = 0;
          state = kNextState[state][0];
          if (static_cast<std::uint8_t>(m.row) == 2) {
            // All models of a saturated cycle have the same LPS width.
            std::uint32_t s = state;
            bool still = true;
            do {
              const Model& other = sig[3 * s];
              still = still && static_cast<std::uint8_t>(other.row) == 2 && other.stands_still_on_zero();
              s = kNextState[s][0];
            } while (still && s != state);
            if (still) {
              const std::uint64_t zeros = a.skip_zeros(m, count - i);
              std::memset(out + i, 0, zeros * sizeof(std::int32_t));
              i += zeros;
              state = skip_state(state, zeros);
            }
          }
        }
      }
      if (!hit) break;
    } else if (!a.bin(sig[3 * state + (prev < 0 ? 1u : 2u)])) {
      prev = 0;
      out[i++] = 0;
      if (DQ) state = kNextState[state][0];
      continue;
    }
    const std::uint32_t negative = a.bin_even(sign[neighbour_class(prev)]);
    std::uint64_t magnitude = 1;
    Model* greater = gt + negative;
    std::uint32_t j = 0;
    while (j < unary && a.bin(greater[2 * j])) ++j;
    magnitude += j;
    if (j == unary) magnitude = read_remainder(a, esc, magnitude, ~std::uint64_t{0});
    const std::int32_t level = signed_level(magnitude, negative != 0);
    prev = negative ? -1 : 1;
    out[i++] = DQ ? multiple_of(level, state) : level;
    if (DQ) state = kNextState[state][level & 1];
  }
  state_ = state;
  prev_ = prev;
  decoder_ = a;
}

// Codebook bounds, temporal context and history map.
void TensorDecoder::general(std::int32_t* out, std::size_t count, std::uint64_t position) {
  Model* const models = models_.data();
  const std::uint64_t size = coding_.bound_size();
  const bool only_positive = size && coding_.codebook_zero == 0;
  const bool only_negative = size && coding_.codebook_zero == size - 1;
  const std::int32_t* const reference = coding_.temporal() ? coding_.reference + position : nullptr;
  const std::uint8_t* const history = hist_on_ ? coding_.history + position : nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    const LevelContext k = level_context(layout_, state_, prev_, reference ? reference[i] : 0, history && history[i]);
    std::int32_t level = 0;
    if (decoder_.bin(models[k.sig])) {
      const bool negative = only_negative || (!only_positive && decoder_.bin(models[k.sign]));
      const std::uint64_t top = coding_.top(negative);
      std::uint64_t magnitude = 1;
      std::uint32_t j = 0;
      bool more = true;
      while (more && j < coding_.unary_length && magnitude < top) {
        more = decoder_.bin(models[greater_model(layout_, k, j, negative)]) != 0;
        magnitude += more;
        ++j;
      }
      if (more && j == coding_.unary_length && magnitude < top)
        magnitude = read_remainder(decoder_, models + layout_.esc, magnitude, top);
      if (size && magnitude > top) status_ = {Code::corrupt, "codebook index", decoder_.place()};
      level = signed_level(magnitude, negative);
    }
    prev_ = level;
    out[i] = coding_.dq ? multiple_of(level, state_) : level;
    if (coding_.dq) state_ = kNextState[state_][level & 1];
  }
}

}  // namespace nnc
