// Decoding of one tensor inside an arithmetic codeword: tools, parameter sets, levels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "arith_decoder.h"
#include "contexts.h"
#include "level_automaton.h"
#include "status.h"

namespace nnc {

// Receives integers (multiples for dependent quantization, codebook index minus zero for a codebook) by raster position.
class IntegerSink {
 public:
  virtual ~IntegerSink() = default;
  virtual bool write(std::uint64_t position, const std::int32_t* values, std::size_t count) = 0;  // false: reject
  virtual bool zeros(std::uint64_t position, std::uint64_t count) = 0;
};

struct EntryPoint {
  std::uint64_t offset = 0;  // bits from the start of the payload to the position, less 9
  std::uint32_t window = 0;
  std::uint32_t state = 0;
};

class TensorDecoder {
 public:
  // `decoder` is advanced; it and the arrays in `coding` must outlive this object.
  TensorDecoder(ArithDecoder& decoder, const TensorCoding& coding);

  // Flags, row skip list, parameter sets, and the clamp before the first of several block rows.
  Status read_head();
  // All levels in coding order.
  Status read_levels(IntegerSink& sink);
  // One block row, wherever the decoder stands: any order, any subset. The first one continues after read_head() and
  // needs no entry point.
  Status read_block_row(std::uint64_t block_row, const EntryPoint* entry, IntegerSink& sink);
  // After a block row: whether the next one would begin where its entry point says. Ends the current position.
  bool arrives_at(const EntryPoint& next);
  bool hist_on() const { return hist_on_; }

 private:
  bool segment(std::uint64_t y, std::uint64_t x, std::uint64_t width, IntegerSink& sink);
  void restart();
  Status finish(bool completed) const;

  // Whether levels of this many bits are better decoded without branches.
  bool dense(std::uint64_t bits, std::uint64_t count) const;
  template <bool DQ>
  void plain_loop(std::int32_t* out, std::size_t count);
  template <bool DQ>
  void plain(std::int32_t* out, std::size_t count);
#ifdef NNC_AVX2
  template <bool DQ>
  NNC_TARGET_AVX2 void plain_avx2(std::int32_t* out, std::size_t count);
#endif
  void general(std::int32_t* out, std::size_t count, std::uint64_t position);
  void levels(std::int32_t* out, std::size_t count, std::uint64_t position);

  ArithDecoder& decoder_;
  TensorCoding coding_;
  ContextLayout layout_;
  LevelAutomaton automaton_;
  std::vector<std::uint8_t> skip_;
  bool hist_on_ = false;
  bool has_skips_ = false;
  bool dense_ = false;
  std::uint64_t bits_ = 0;     // of the levels since dense_ was decided
  std::uint64_t counted_ = 0;  // number of these levels
  std::uint32_t state_ = 0;
  std::int32_t prev_ = 0;
  Status status_;
  void (TensorDecoder::*plain_)(std::int32_t* out, std::size_t count) = nullptr;
};

}  // namespace nnc
