// A parsed bitstream of one data unit, whose tensor is decoded whole or in block rows, as often as needed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "reconstruct.h"
#include "single.h"
#include "status.h"
#include "tensor_decoder.h"

namespace nnc {

// Decoding is const and keeps no state: any number of threads may share one object.
class SingleTensor {
 public:
  SingleTensor();
  ~SingleTensor();
  SingleTensor(SingleTensor&&) noexcept;
  SingleTensor& operator=(SingleTensor&&) noexcept;

  // Parses the headers. The bytes are read again at every decode and must stay.
  Status open(const std::uint8_t* data, std::size_t size, const Limits& limits);

  const SingleInfo& info() const;
  std::uint64_t rows() const;  // of the matrix that is coded: the first dimension
  std::uint64_t cols() const;
  // The least number of rows that can be decoded alone: the height of a block row if there are entry points, else
  // rows(). The last block row may be lower.
  std::uint64_t block_height() const;
  std::uint64_t block_rows() const;

  // `out` holds all elements in C order.
  Status decode(DType type, void* out) const;
  // `out` holds the rows of block rows `first` to `first + count - 1`. Equals decode() bit for bit: every block row has
  // to end where the entry point of the next one says, else Code::corrupt. A bitstream whose entry points are wrong
  // can still be decoded whole.
  Status decode_block_rows(std::uint64_t first, std::uint64_t count, DType type, void* out) const;

  // For those who keep integers; raw floats have none (Code::unsupported). Positions count from the
  // start of the tensor.
  // Whether the integers are steps of float values.
  bool has_levels() const;
  Status read_integers(IntegerSink& sink) const;
  Status read_block_rows(std::uint64_t first, std::uint64_t count, IntegerSink& sink) const;
  // How integers become values of `type`; refers to this object.
  Reconstruction reconstruction(DType type) const;

 private:
  bool holds(std::uint64_t first, std::uint64_t count) const;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nnc
