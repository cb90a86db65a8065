// Integers of a tensor in one or two bytes each, and their way back to values: what a cache holds to save memory.
//
// Few weights are far from the others, so one byte is enough for nearly all of them: it holds -127 to 127, and -128 for
// an integer that stands in a list behind the bytes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "reconstruct.h"
#include "tensor_decoder.h"

namespace nnc {

// Memory for `elements` integers in `bytes` (1 or 2) each, aligned to 8.
std::size_t level_memory(std::uint64_t elements, unsigned bytes);
// Makes memory ready for the sinks.
void prepare_levels(std::uint64_t elements, unsigned bytes, void* levels);

// Stores integers by raster position. Rejects those that do not fit, or are outside the codebook. Several sinks may
// write to the same memory at a time, at different positions.
class LevelSink final : public IntegerSink {
 public:
  LevelSink(const Reconstruction& how, std::uint64_t elements, unsigned bytes, void* levels)
      : how_(how), elements_(elements), bytes_(bytes), levels_(levels) {}
  bool write(std::uint64_t position, const std::int32_t* values, std::size_t count) override;
  bool zeros(std::uint64_t position, std::uint64_t count) override;
  bool too_wide() const { return too_wide_; }

 private:
  bool list_far(std::uint64_t position, const std::int32_t* values, std::size_t count);

  Reconstruction how_;
  std::uint64_t elements_;
  unsigned bytes_;
  void* levels_;
  bool too_wide_ = false;
};

// Values `first` to `first + count - 1` of the tensor, the same bits as ValueSink would have stored, at their place in
// `out`. Only integers that sinks took.
void restore_levels(const Reconstruction& how, std::uint64_t elements, unsigned bytes, const void* levels,
                    std::uint64_t first, std::uint64_t count, void* out);

}  // namespace nnc
