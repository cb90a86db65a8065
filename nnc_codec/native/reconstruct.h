// Integers to values: dequantization and conversion to the element type the caller wants.
#pragma once
#include <cstddef>
#include <cstdint>

#include "single.h"
#include "tensor_decoder.h"

namespace nnc {

struct Reconstruction {
  DType type = DType::float32;
  bool integers = false;                   // payload type INT: the integers are the values
  float step = 1.0f;
  const std::int32_t* codebook = nullptr;  // entries in units of the step, or null
  std::uint64_t codebook_size = 0;
  std::uint64_t codebook_zero = 0;
};

std::size_t size_of(DType type);
std::uint16_t to_float16(float value);   // round to nearest even
std::uint16_t to_bfloat16(float value);  // round to nearest even

// Stores floats as elements of a float type.
void store_floats(DType type, void* out, std::uint64_t position, const float* values, std::size_t count);

// Stores reconstructed values in raster order at `out`.
class ValueSink final : public IntegerSink {
 public:
  // `first` is the raster position that lies at the start of `out`.
  ValueSink(const Reconstruction& how, void* out, std::uint64_t first = 0)
      : how_(how), out_(static_cast<std::uint8_t*>(out)), first_(first) {}
  bool write(std::uint64_t position, const std::int32_t* values, std::size_t count) override;
  bool zeros(std::uint64_t position, std::uint64_t count) override;

 private:
  Reconstruction how_;
  std::uint8_t* out_;
  std::uint64_t first_;
};

// Checks that the integer type can hold the payload kind at all.
Status check(const Reconstruction& how);

}  // namespace nnc
