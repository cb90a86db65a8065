// Integers of a tensor in one or two bytes each, and their way back to values: what a cache holds to save memory.
#pragma once
#include <cstdint>

#include "reconstruct.h"
#include "tensor_decoder.h"

namespace nnc {

// Stores integers by raster position. Rejects those that are wider than `bytes` (1 or 2), or outside the codebook.
class LevelSink final : public IntegerSink {
 public:
  LevelSink(const Reconstruction& how, unsigned bytes, void* out) : how_(how), bytes_(bytes), out_(out) {}
  bool write(std::uint64_t position, const std::int32_t* values, std::size_t count) override;
  bool zeros(std::uint64_t position, std::uint64_t count) override;
  bool too_wide() const { return too_wide_; }

 private:
  Reconstruction how_;
  unsigned bytes_;
  void* out_;
  bool too_wide_ = false;
};

// Values `first` to `first + count - 1` of the tensor, the same bits as ValueSink would have stored. Only integers that
// a LevelSink took.
void restore_levels(const Reconstruction& how, unsigned bytes, const void* levels, std::uint64_t first,
                    std::uint64_t count, void* out);

}  // namespace nnc
