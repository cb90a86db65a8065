// Bytes in a prefix code (Huffman's, limited to short codewords), made to be decoded fast: what takes CABAC some seventy
// nanoseconds takes one here, in about a sixth more memory than the payload.
//
// Only ever made and read in this process, so nothing in it can be wrong.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"

namespace nnc {

class PrefixCoded {
 public:
  // Takes pieces of the bytes back that were coded.
  using Consumed = void (*)(std::uint8_t* bytes, std::size_t count);

  // `block` bytes are decoded at a time. May throw std::bad_alloc.
  PrefixCoded(std::uint8_t* bytes, std::size_t count, std::size_t block, Consumed consumed);

  std::size_t count() const { return count_; }
  std::size_t block() const { return block_; }
  std::size_t blocks() const { return (count_ + block_ - 1) / block_; }
  std::size_t size_of_block(std::size_t block) const;
  std::size_t memory() const { return data_.capacity() + starts_.capacity() * sizeof(std::uint64_t); }

  // Decodes blocks one after the other.
  class Reader {
   public:
    explicit Reader(const PrefixCoded& coded);
    void read(std::size_t block, std::uint8_t* out) const;  // size_of_block() bytes

   private:
    friend class PrefixCoded;
    static constexpr unsigned kLongest = 11;  // bits of a codeword; five of them fit what one load gives
    void read_streams(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const;
    void read_portable(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const;
#ifdef NNC_AVX2
    NNC_TARGET_AVX2 void read_avx2(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const;
#endif
    const PrefixCoded& coded_;
    std::uint16_t table_[std::size_t{1} << kLongest];  // by the next bits: byte << 8 | length of its codeword
  };

 private:
  static constexpr std::size_t kStreams = 4;  // quarters of a block, decoded side by side

  std::size_t count_;
  std::size_t block_;
  std::uint8_t lengths_[256] = {};     // bits of the codeword of each byte, 0: it does not occur
  std::vector<std::uint64_t> starts_;  // byte offsets of all streams
  std::vector<std::uint8_t> data_;     // most significant bit first; some bytes more, so that any eight can be loaded
};

}  // namespace nnc
