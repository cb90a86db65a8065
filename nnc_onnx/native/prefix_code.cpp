#include "prefix_code.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "arith_decoder.h"

namespace nnc {
namespace {

constexpr std::size_t kBytes = 256;
constexpr std::size_t kMargin = 8;
constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr std::size_t kAtOnce = 5;  // bytes that a load of eight holds the codewords of

struct Range {
  std::size_t first;
  std::size_t end;
};

// Quarter `stream` of a block of `size` bytes.
Range quarter(std::size_t size, std::size_t stream, std::size_t streams) {
  const std::size_t length = (size + streams - 1) / streams;
  return {std::min(size, stream * length), std::min(size, (stream + 1) * length)};
}

// Huffman's code lengths, without a limit.
void huffman_lengths(const std::uint64_t* counts, std::uint8_t* lengths) {
  using Node = std::pair<std::uint64_t, std::size_t>;  // weight, index: ties are broken the same way everywhere
  std::priority_queue<Node, std::vector<Node>, std::greater<Node>> heap;
  std::size_t parent[2 * kBytes] = {};
  for (std::size_t byte = 0; byte < kBytes; ++byte)
    if (counts[byte] != 0) heap.emplace(counts[byte], byte);
  if (heap.size() == 1) lengths[heap.top().second] = 1;
  std::size_t next = kBytes;
  while (heap.size() > 1) {
    const Node a = heap.top();
    heap.pop();
    const Node b = heap.top();
    heap.pop();
    parent[a.second] = parent[b.second] = next;
    heap.emplace(a.first + b.first, next++);
  }
  if (next == kBytes) return;
  std::uint8_t depth[2 * kBytes] = {};
  for (std::size_t node = next - 1; node-- > 0;) {
    if (node < kBytes && counts[node] == 0) continue;
    depth[node] = static_cast<std::uint8_t>(depth[parent[node]] + 1);
    if (node < kBytes) lengths[node] = depth[node];
  }
}

// Shortens what is too long and pays for it with the rarest of the others.
void limit_lengths(const std::uint64_t* counts, unsigned longest, std::uint8_t* lengths) {
  std::vector<std::size_t> rare_first;
  std::uint64_t taken = 0;  // of the 2^longest leaves of the tree
  for (std::size_t byte = 0; byte < kBytes; ++byte) {
    if (lengths[byte] == 0) continue;
    lengths[byte] = static_cast<std::uint8_t>(std::min<unsigned>(lengths[byte], longest));
    taken += std::uint64_t{1} << (longest - lengths[byte]);
    rare_first.push_back(byte);
  }
  std::sort(rare_first.begin(), rare_first.end(), [&](std::size_t a, std::size_t b) {
    return counts[a] != counts[b] ? counts[a] < counts[b] : a < b;
  });
  const std::uint64_t all = std::uint64_t{1} << longest;
  while (taken > all) {
    for (std::size_t byte : rare_first) {
      if (lengths[byte] == longest || taken <= all) continue;
      ++lengths[byte];
      taken -= std::uint64_t{1} << (longest - lengths[byte]);
    }
  }
  for (auto byte = rare_first.rbegin(); byte != rare_first.rend(); ++byte) {
    const std::uint64_t more = std::uint64_t{1} << (longest - lengths[*byte]);
    if (lengths[*byte] > 1 && taken + more <= all) {
      --lengths[*byte];
      taken += more;
    }
  }
}

// Calls give(byte, length) in the order of the canonical code.
template <class Give>
void in_code_order(const std::uint8_t* lengths, unsigned longest, Give give) {
  for (unsigned length = 1; length <= longest; ++length)
    for (std::size_t byte = 0; byte < kBytes; ++byte)
      if (lengths[byte] == length) give(static_cast<std::uint8_t>(byte), length);
}

}  // namespace

PrefixCoded::PrefixCoded(std::uint8_t* bytes, std::size_t count, std::size_t block, Consumed consumed)
    : count_(count), block_(block) {
  constexpr unsigned longest = Reader::kLongest;
  std::uint64_t counts[kBytes] = {};
  for (std::size_t i = 0; i < count; ++i) ++counts[bytes[i]];
  huffman_lengths(counts, lengths_);
  limit_lengths(counts, longest, lengths_);
  std::uint32_t codes[kBytes] = {};
  std::uint32_t next = 0;  // left-aligned in `longest` bits
  in_code_order(lengths_, longest, [&](std::uint8_t byte, unsigned length) {
    codes[byte] = next >> (longest - length);
    next += 1u << (longest - length);
  });
  std::uint64_t bits = 0;
  for (std::size_t byte = 0; byte < kBytes; ++byte) bits += counts[byte] * lengths_[byte];
  data_.reserve(static_cast<std::size_t>(bits / 8) + blocks() * kStreams + kMargin);
  starts_.reserve(blocks() * kStreams);
  std::size_t kept = 0;
  for (std::size_t index = 0; index < blocks(); ++index) {
    if (index * block_ - kept >= kPiece) {
      consumed(bytes + kept, index * block_ - kept);
      kept = index * block_;
    }
    const std::uint8_t* const from = bytes + index * block_;
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const Range range = quarter(size_of_block(index), stream, kStreams);
      starts_.push_back(data_.size());
      std::uint64_t pending = 0;
      unsigned held = 0;
      for (std::size_t i = range.first; i < range.end; ++i) {
        pending = pending << lengths_[from[i]] | codes[from[i]];
        held += lengths_[from[i]];
        for (; held >= 8; held -= 8) data_.push_back(static_cast<std::uint8_t>(pending >> (held - 8)));
      }
      if (held != 0) data_.push_back(static_cast<std::uint8_t>(pending << (8 - held)));
    }
  }
  data_.resize(data_.size() + kMargin);
}

std::size_t PrefixCoded::size_of_block(std::size_t block) const { return std::min(block_, count_ - block * block_); }

PrefixCoded::Reader::Reader(const PrefixCoded& coded) : coded_(coded), table_() {
  std::size_t next = 0;
  in_code_order(coded.lengths_, kLongest, [&](std::uint8_t byte, unsigned length) {
    const std::size_t end = next + (std::size_t{1} << (kLongest - length));
    std::fill(table_ + next, table_ + end, static_cast<std::uint16_t>(byte << 8 | length));
    next = end;
  });
}

// `groups` times a few bytes of all four streams; moves on both what is read and what is written.
NNC_INLINE void PrefixCoded::Reader::read_streams(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const {
  constexpr unsigned kShift = 64 - kLongest;
  static_assert(kAtOnce * kLongest + 7 < 64 && kStreams == 4, "one load lasts for all of them");
  const std::uint8_t* const data = coded_.data_.data();
  std::uint64_t at0 = at[0], at1 = at[1], at2 = at[2], at3 = at[3];
  std::uint8_t *to0 = to[0], *to1 = to[1], *to2 = to[2], *to3 = to[3];
  for (std::size_t group = 0; group < groups; ++group) {
    std::uint64_t w0 = load_be64(data + (at0 >> 3)) << (at0 & 7), w1 = load_be64(data + (at1 >> 3)) << (at1 & 7);
    std::uint64_t w2 = load_be64(data + (at2 >> 3)) << (at2 & 7), w3 = load_be64(data + (at3 >> 3)) << (at3 & 7);
    std::uint32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;  // of the entries: the low bytes count the bits
    for (std::size_t i = 0; i < kAtOnce; ++i) {
      const std::uint32_t e0 = table_[w0 >> kShift], e1 = table_[w1 >> kShift];
      const std::uint32_t e2 = table_[w2 >> kShift], e3 = table_[w3 >> kShift];
      w0 <<= e0 & 63, w1 <<= e1 & 63, w2 <<= e2 & 63, w3 <<= e3 & 63;
      sum0 += e0, sum1 += e1, sum2 += e2, sum3 += e3;
      to0[i] = static_cast<std::uint8_t>(e0 >> 8), to1[i] = static_cast<std::uint8_t>(e1 >> 8);
      to2[i] = static_cast<std::uint8_t>(e2 >> 8), to3[i] = static_cast<std::uint8_t>(e3 >> 8);
    }
    at0 += sum0 & 0xff, at1 += sum1 & 0xff, at2 += sum2 & 0xff, at3 += sum3 & 0xff;
    to0 += kAtOnce, to1 += kAtOnce, to2 += kAtOnce, to3 += kAtOnce;
  }
  at[0] = at0, at[1] = at1, at[2] = at2, at[3] = at3;
  to[0] = to0, to[1] = to1, to[2] = to2, to[3] = to3;
}

void PrefixCoded::Reader::read_portable(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const {
  read_streams(at, to, groups);
}
#ifdef NNC_AVX2
NNC_TARGET_AVX2 void PrefixCoded::Reader::read_avx2(std::uint64_t* at, std::uint8_t** to, std::size_t groups) const {
  read_streams(at, to, groups);
}
#endif

void PrefixCoded::Reader::read(std::size_t block, std::uint8_t* out) const {
  const std::size_t size = coded_.size_of_block(block);
  const std::uint8_t* const data = coded_.data_.data();
  std::uint8_t* to[kStreams];
  std::uint8_t* end[kStreams];
  std::uint64_t at[kStreams];  // in bits
  for (std::size_t s = 0; s < kStreams; ++s) {
    const Range range = quarter(size, s, kStreams);
    to[s] = out + range.first;
    end[s] = out + range.end;
    at[s] = 8 * coded_.starts_[block * kStreams + s];
  }
  // The last quarter is the shortest.
  const std::size_t groups = static_cast<std::size_t>(end[kStreams - 1] - to[kStreams - 1]) / kAtOnce;
#ifdef NNC_AVX2
  if (has_avx2())
    read_avx2(at, to, groups);
  else
#endif
    read_portable(at, to, groups);
  for (std::size_t s = 0; s < kStreams; ++s) {
    while (to[s] != end[s]) {
      const std::uint32_t entry = table_[load_be64(data + (at[s] >> 3)) << (at[s] & 7) >> (64 - kLongest)];
      at[s] += entry & 0xff;
      *to[s]++ = static_cast<std::uint8_t>(entry >> 8);
    }
  }
}

}  // namespace nnc
