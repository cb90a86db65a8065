#include "tensor_decoder.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace nnc {

namespace {

constexpr std::uint64_t kDecided = 1024;  // levels after which the way to decode them is chosen anew
constexpr std::size_t kChunk = 4096;  // integers decoded before they are handed on; stays in the first-level cache

// Magnitude above the unary part: exponential-Golomb with one model per prefix position.
NNC_INLINE std::uint64_t read_remainder(ArithDecoder& a, Model* esc, std::uint64_t magnitude, std::uint64_t top) {
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

// The same without a bound.
NNC_INLINE std::uint32_t read_remainder(ArithDecoder& a, Model* esc, std::uint32_t magnitude) {
  unsigned k = 0;
  while (k < 31 && a.bin(esc[k])) magnitude += 1u << k++;
  return magnitude + a.bypass(k);
}

// States that a row of zeros goes around.
constexpr std::array<std::array<std::uint8_t, 4>, 8> make_zero_cycles() {
  std::array<std::array<std::uint8_t, 4>, 8> cycles{};
  for (std::uint8_t s = 0; s < 8; ++s) {
    cycles[s][0] = s;
    for (unsigned j = 1; j < 4; ++j) cycles[s][j] = kNextState[cycles[s][j - 1]][0];
  }
  return cycles;
}
constexpr std::array<std::array<std::uint8_t, 4>, 8> kAfterZeros = make_zero_cycles();

// A level of a neighbour_class().
inline std::int32_t level_of_class(std::uint32_t neighbour) { return neighbour == 0 ? 0 : neighbour == 1 ? -1 : 1; }

// Integer that a level stands for in a state, 2 * level - sgn(level) * (state & 1), without overflow traps.
inline std::int32_t multiple_of(std::int32_t level, std::uint32_t state) {
  const std::uint32_t twice = static_cast<std::uint32_t>(level) * 2u;
  const std::uint32_t odd = level == 0 ? 0u : state & 1u;
  return static_cast<std::int32_t>(level < 0 ? twice + odd : twice - odd);
}

}  // namespace

TensorDecoder::TensorDecoder(ArithDecoder& decoder, const TensorCoding& coding)
    : decoder_(decoder), coding_(coding), layout_(coding.unary_length), automaton_(layout_) {
  plain_ = coding.dq ? &TensorDecoder::plain<true> : &TensorDecoder::plain<false>;
#ifdef NNC_AVX2
  if (has_avx2()) plain_ = coding.dq ? &TensorDecoder::plain_avx2<true> : &TensorDecoder::plain_avx2<false>;
#endif
}

Status TensorDecoder::read_head() {
  Model* const models = automaton_.models();
  for (std::uint32_t i = 0; i < layout_.count; ++i) models[i].load(0);
  if (coding_.codes_tools()) {
    if (coding_.parent_present || coding_.temporal()) hist_on_ = decoder_.bypass(1) != 0;
    if (hist_on_ && !coding_.history) return {Code::unsupported, "hist_dep_sig_prob_enabled_flag without a history map", decoder_.place()};
    has_skips_ = decoder_.bypass(1) != 0;
    if (has_skips_) {
      // A row list costs at least a hundredth of a bit per row, so a row count far above the payload is a forgery
      // that the caller's expansion limit has to stop before it gets here.
      skip_.resize(coding_.rows);
      for (std::uint64_t y = 0; y < coding_.rows; ++y) {
        skip_[y] = static_cast<std::uint8_t>(decoder_.bin(models[layout_.row]));
        if ((y & 0xfff) == 0xfff && decoder_.overrun()) return {Code::truncated, "row_skip_list", decoder_.place()};
      }
    }
  }
  Model& idf = models[layout_.idf];
  for_each_signalled(coding_, hist_on_, layout_, [&](std::uint32_t model) {
    const unsigned set = decoder_.bin(idf) ? 1 + decoder_.bypass(3) : 0;
    models[model].load(set);
  });
  if (decoder_.overrun()) return {Code::truncated, "shift_idx_minus_1", decoder_.place()};
  const std::uint64_t levels = coding_.rows * coding_.cols;
  dense_ = levels >= kDecided && dense(decoder_.left(), levels);
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
  if (!coding_.effective_scan() && !has_skips_) return finish(segment(0, 0, coding_.rows * coding_.cols, sink));
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

bool TensorDecoder::arrives_at(const EntryPoint& next) {
  return decoder_.clamp() && decoder_.mark() == next.offset && decoder_.window() == next.window &&
         (!coding_.dq || state_ == next.state);
}

Status TensorDecoder::finish(bool completed) const {
  if (!status_.ok()) return status_;
  if (decoder_.overrun()) return {Code::truncated, "quant_tensor", decoder_.place()};
  if (!completed) return {Code::corrupt, "integer out of range", decoder_.place()};
  return {};
}

void TensorDecoder::restart() {
  Model* const models = automaton_.models();
  for (std::uint32_t i = 0; i < layout_.count; ++i) models[i].restart();
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
  if (coding_.bound_size() || coding_.temporal() || hist_on_) return general(out, count, position);
#ifdef NNC_AVX2
  const std::uint64_t start = decoder_.pulled();
  if (dense_ && has_avx2() && (automaton_.built() || automaton_.build(coding_.unary_length, coding_.dq))) {
    std::uint32_t neighbour = neighbour_class(prev_);
    automaton_.decode(decoder_, out, count, state_, neighbour);
    prev_ = level_of_class(neighbour);
  } else {
    (this->*plain_)(out, count);
  }
  counted_ += count;
  bits_ += decoder_.pulled() - start;
  if (counted_ < kDecided) return;
  dense_ = dense(bits_, counted_);
  counted_ = bits_ = 0;
#else
  (this->*plain_)(out, count);
#endif
}

bool TensorDecoder::dense(std::uint64_t bits, std::uint64_t count) const {
  // In hundredths of a bit per level. Below, runs of zeros are faster; above, the greater-than flags are foreseeable.
  return 100 * bits >= (coding_.dq ? 65 : 135) * count && 100 * bits <= 500 * count;
}

// Unbounded levels with neighbour contexts only: nearly every stream.
template <bool DQ>
NNC_INLINE void TensorDecoder::plain_loop(std::int32_t* out, std::size_t count) {
  std::fill(out, out + count, 0);
  ArithDecoder a = decoder_;
  Model* const models = automaton_.models();
  Model* const sign = models + ContextLayout::sign;
  Model* const gt = models + layout_.gt;
  const std::uint32_t unary = coding_.unary_length;
  std::uint32_t state = DQ ? state_ : 0;
  std::uint32_t neighbour = neighbour_class(prev_);
  std::size_t i = 0;
  while (i < count) {
    Model* sig = models + ContextLayout::sig + 3 * state;
    if (neighbour == 0) {
      // Run of zeros: the neighbour stays, the state walks the cycle of even levels.
      if (!DQ || kNextState[state][0] == state) {
        i += a.zeros(*sig, count - i);
      } else {
        Model* cycle[4];
        for (std::uint32_t j = 0; j < 4; ++j) cycle[j] = models + ContextLayout::sig + 3 * kAfterZeros[state][j];
        std::uint32_t zeros = 4;
        while (zeros == 4 && i < count) {
          if (in_tail(*cycle[0]) && all_in_tail<4>(cycle)) {
            const std::size_t run = cycle[0] == cycle[2] ? a.tail_zeros<2>(cycle, count - i) : a.tail_zeros<4>(cycle, count - i);
            i += run;
            zeros = run & 3;
            break;
          }
          const std::uint32_t limit = static_cast<std::uint32_t>(std::min<std::size_t>(4, count - i));
          for (zeros = 0; zeros < limit; ++zeros) {
            Model& m = *cycle[zeros];
            if (ArithDecoder::skewed_to_zero(m) ? !a.bet_on_zero(m) : a.bin(m)) break;
          }
          i += zeros;
        }
        state = kAfterZeros[state][zeros & 3];
      }
      if (i == count) break;
    } else if (!(ArithDecoder::skewed_to_one(sig[neighbour]) ? a.bet_on_one(sig[neighbour]) : a.bin(sig[neighbour]) != 0)) {
      neighbour = 0;
      ++i;
      if (DQ) state = kNextState[state][0];
      continue;
    }
    const std::uint32_t negative = a.bin_even(sign[neighbour]);
    neighbour = 2 - negative;
    Model* const first = gt + negative;
    Model* const end = first + 2 * unary;
    Model* greater = first;
    while ((ArithDecoder::skewed_to_one(*greater) ? a.bet_on_one(*greater) : a.bin(*greater) != 0) && (greater += 2) != end) {
    }
    std::uint32_t magnitude = 1 + static_cast<std::uint32_t>((greater - first) >> 1);
    if (__builtin_expect(greater == end, 0)) magnitude = read_remainder(a, models + layout_.esc, magnitude);
    const std::uint32_t odd = state & 1u;
    const std::uint32_t multiple = DQ ? 2 * magnitude - odd : magnitude;
    out[i++] = static_cast<std::int32_t>((multiple ^ (0u - negative)) + negative);
    if (DQ) state = kNextState[state][magnitude & 1];
  }
  state_ = state;
  prev_ = level_of_class(neighbour);
  decoder_ = a;
}

template <bool DQ>
void TensorDecoder::plain(std::int32_t* out, std::size_t count) {
  plain_loop<DQ>(out, count);
}
#ifdef NNC_AVX2
template <bool DQ>
void TensorDecoder::plain_avx2(std::int32_t* out, std::size_t count) {
  plain_loop<DQ>(out, count);
}
#endif

// Codebook bounds, temporal context and history map.
void TensorDecoder::general(std::int32_t* out, std::size_t count, std::uint64_t position) {
  Model* const models = automaton_.models();
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
