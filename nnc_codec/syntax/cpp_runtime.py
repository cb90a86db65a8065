"""The hand-written parts of the generated C++ header: bit reader before the structures, unit walk after."""

PROLOGUE = r"""// Reader of ISO/IEC 15938-17 syntax, generated from nnc_codec/syntax by generate_cpp.py.
//
//   Context context;                                   // limits and out-of-band facts go in here
//   for (std::size_t offset = 0; offset < size;) {
//     Unit unit;
//     Status status = read_unit(data, size, offset, context, unit);  // size field and unit header
//     ... read(unit.payload, context, mps), expect_end(unit.payload), update(context, mps) ...
//     offset += unit.size;
//   }
//
// No function throws, none reads outside the buffer, none allocates more entries than the bits left can hold.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <string_view>
#include <type_traits>
#include <vector>

#include "status.h"

namespace nnc {
namespace syntax {

// Numbers as std::int64_t, everything else as it is: the value of a name in a condition of the description.
template <class T>
constexpr decltype(auto) val(const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<std::int64_t>(value);
  } else {
    return (value);
  }
}

constexpr std::int64_t saturated = std::int64_t{1} << 62;

inline std::int64_t product2(std::int64_t a, std::int64_t b) {
  if (a <= 0 || b <= 0) return 0;
  return a > saturated / b ? saturated : a * b;
}

template <class T>
std::int64_t first(const std::vector<T>& items) {
  return items.empty() ? 0 : static_cast<std::int64_t>(items[0]);
}

template <class T>
std::int64_t product(const std::vector<T>& items) {
  std::int64_t result = 1;
  for (const T& item : items) result = product2(result, static_cast<std::int64_t>(item));
  return result;
}

template <class T>
std::int64_t total(const std::vector<T>& items) {
  std::int64_t result = 0;
  for (const T& item : items) result = std::min(saturated, result + static_cast<std::int64_t>(item));
  return result;
}

template <class T>
std::int64_t length(const std::vector<T>& items) {
  return static_cast<std::int64_t>(items.size());
}

inline bool rows_divide(const std::vector<std::uint64_t>& dimensions, std::int64_t rows) {
  const std::int64_t elements = product(dimensions);
  return rows > 0 && elements < saturated && elements % rows == 0;
}

// Elements of the larger of the two factors of a decomposed weight.
inline std::int64_t larger_factor(const std::vector<std::uint64_t>& dimensions, std::int64_t rows,
                                    std::int64_t rank) {
  const std::int64_t columns = product(dimensions) / std::max<std::int64_t>(rows, 1);
  return std::max(product2(rows, rank), product2(columns, rank));
}

template <class T>
[[nodiscard]] bool resize(std::vector<T>& items, std::int64_t count) noexcept {
  try {
    items.resize(static_cast<std::size_t>(count));
    return true;
  } catch (...) {
    return false;
  }
}

template <class T>
[[nodiscard]] bool copy(std::vector<T>& to, const std::vector<T>& from) noexcept {
  if (!resize(to, static_cast<std::int64_t>(from.size()))) return false;
  std::copy(from.begin(), from.end(), to.begin());
  return true;
}

struct Bytes {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;
};

inline bool is_utf8(const std::uint8_t* text, std::size_t size) {
  for (std::size_t n = 0; n < size;) {
    const std::uint8_t lead = text[n];
    if ((lead >= 0x80 && lead < 0xC2) || lead >= 0xF5) return false;
    const std::size_t more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    if (size - n <= more) return false;
    // Second bytes that would make an overlong form, a surrogate or a value above U+10FFFF.
    if (more > 0) {
      const std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (text[n + 1] < low || text[n + 1] > high) return false;
    }
    for (std::size_t k = 2; k <= more; ++k) {
      if ((text[n + k] & 0xC0) != 0x80) return false;
    }
    n += 1 + more;
  }
  return true;
}

// Bits of `size` bytes, most significant first. Positions count from `data`; reading ends at `end_byte`.
class BitReader {
 public:
  BitReader() = default;
  BitReader(const std::uint8_t* data, std::size_t first_byte, std::size_t end_byte)
      : data_(data),
        position_(std::uint64_t{8} * first_byte),
        end_(std::uint64_t{8} * end_byte),
        at_(position_) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return end_ - position_; }
  std::uint64_t end() const { return end_; }
  const std::uint8_t* data() const { return data_; }

  // A failure at the element read last.
  Status fail(Code code, const char* what) const { return Status{code, what, at_}; }

  // Lets `fail` name the element that would be read next.
  void here() { at_ = position_; }

  Code entries(std::int64_t count, std::uint64_t min_bits) {
    at_ = position_;
    if (count < 0) return Code::corrupt;
    return static_cast<std::uint64_t>(count) <= left() / min_bits ? Code::ok : Code::truncated;
  }

  template <class T>
  Code u(std::int64_t width, T& value) {
    at_ = position_;
    std::uint64_t raw = 0;
    const Code code = raw_bits(width, raw);
    if (code == Code::ok) value = static_cast<T>(raw);
    return code;
  }

  template <class T>
  Code i(std::int64_t width, T& value) {
    at_ = position_;
    std::uint64_t raw = 0;
    const Code code = raw_bits(width, raw);
    if (code != Code::ok) return code;
    const std::uint64_t sign = std::uint64_t{1} << (width - 1);
    value = static_cast<T>(static_cast<std::int64_t>(raw ^ sign) - static_cast<std::int64_t>(sign));
    return Code::ok;
  }

  Code ue(std::int64_t order, std::uint64_t& value) {
    at_ = position_;
    return exp_golomb(order, value);
  }

  Code ie(std::int64_t order, std::int64_t& value) {
    at_ = position_;
    std::uint64_t code_number = 0;
    const Code code = exp_golomb(order, code_number);
    if (code != Code::ok) return code;
    const std::int64_t half = static_cast<std::int64_t>((code_number + 1) >> 1);
    value = (code_number & 1) != 0 ? half : -half;
    return Code::ok;
  }

  Code flt(float& value) {
    at_ = position_;
    std::uint32_t pattern = 0;
    if (left() < 32) return Code::truncated;
    for (unsigned shift = 0; shift < 32; shift += 8) {
      std::uint64_t byte = 0;
      raw_bits(8, byte);
      pattern |= static_cast<std::uint32_t>(byte) << shift;
    }
    static_assert(sizeof value == sizeof pattern && std::numeric_limits<float>::is_iec559, "binary32");
    std::memcpy(&value, &pattern, sizeof value);
    return Code::ok;
  }

  Code st(std::string_view& text, std::int64_t max_bytes) {
    at_ = position_;
    if ((position_ & 7) != 0) return Code::corrupt;
    const std::size_t available = static_cast<std::size_t>(left() >> 3);
    const std::size_t bound = static_cast<std::size_t>(std::max<std::int64_t>(max_bytes, 0)) + 1;
    const std::uint8_t* begin = data_ + (position_ >> 3);
    const void* stop = available == 0 ? nullptr : std::memchr(begin, 0, std::min(available, bound));
    if (stop == nullptr) return available >= bound ? Code::limit_exceeded : Code::truncated;
    const std::size_t size = static_cast<std::size_t>(static_cast<const std::uint8_t*>(stop) - begin);
    if (!is_utf8(begin, size)) return Code::corrupt;
    text = std::string_view(reinterpret_cast<const char*>(begin), size);
    position_ += std::uint64_t{8} * (size + 1);
    return Code::ok;
  }

  Code bits(std::int64_t width, std::vector<std::uint8_t>& value) {
    at_ = position_;
    if (static_cast<std::uint64_t>(width) > left()) return Code::truncated;
    if (!resize(value, (width + 7) / 8)) return Code::out_of_memory;
    for (std::int64_t n = 0; n < width; n += 8) {
      const std::int64_t part = std::min<std::int64_t>(8, width - n);
      std::uint64_t byte = 0;
      raw_bits(part, byte);
      value[static_cast<std::size_t>(n / 8)] = static_cast<std::uint8_t>(byte << (8 - part));
    }
    return Code::ok;
  }

  Code rest(Bytes& value) {
    at_ = position_;
    if ((position_ & 7) != 0) return Code::corrupt;
    value = Bytes{data_ + (position_ >> 3), static_cast<std::size_t>(left() >> 3)};
    position_ = end_;
    return Code::ok;
  }

  Code align() {
    at_ = position_;
    if (left() == 0) return Code::truncated;
    position_ = (position_ | 7) + 1;
    return Code::ok;
  }

 private:
  Code raw_bits(std::int64_t width, std::uint64_t& value) {
    if (static_cast<std::uint64_t>(width) > left()) return Code::truncated;
    for (std::uint64_t missing = static_cast<std::uint64_t>(width); missing > 0;) {
      const std::uint64_t in_byte = 8 - (position_ & 7);
      const std::uint64_t taken = std::min(in_byte, missing);
      const std::uint64_t byte = data_[position_ >> 3];
      value = (value << taken) | ((byte >> (in_byte - taken)) & ((std::uint64_t{1} << taken) - 1));
      position_ += taken;
      missing -= taken;
    }
    return Code::ok;
  }

  Code exp_golomb(std::int64_t order, std::uint64_t& value) {
    std::int64_t zeros = 0;
    for (std::uint64_t bit = 0; bit == 0;) {
      if (raw_bits(1, bit) != Code::ok) return Code::truncated;
      if (bit == 0 && ++zeros > max_prefix) return Code::corrupt;
    }
    std::uint64_t suffix = 0;
    if (raw_bits(order + zeros, suffix) != Code::ok) return Code::truncated;
    value = (((std::uint64_t{1} << zeros) - 1) << order) + suffix;
    return Code::ok;
  }

  static constexpr std::int64_t max_prefix = 32;
  const std::uint8_t* data_ = nullptr;
  std::uint64_t position_ = 0;
  std::uint64_t end_ = 0;
  std::uint64_t at_ = 0;
};
"""

EPILOGUE = r"""
// One unit of a bitstream: `payload` stands at the first bit after the unit header and ends with the unit.
struct Unit {
  std::size_t offset = 0;  // bytes from the start of the buffer
  std::size_t size = 0;    // bytes, size field included
  UnitHeader header;
  BitReader payload;

  // The payload as bytes. Unit headers end on a byte boundary.
  Bytes bytes() const {
    return Bytes{payload.data() + (payload.position() >> 3), static_cast<std::size_t>(payload.left() >> 3)};
  }
};

// Reads the size and the header of the unit that starts at byte `offset` of the buffer.
inline Status read_unit(const std::uint8_t* data, std::size_t size, std::size_t offset,
                        const Context& context, Unit& unit) {
  BitReader reader(data, std::min(offset, size), size);
  UnitSize unit_size;
  Status status = read(reader, context, unit_size);
  if (!status.ok()) return status;
  const std::uint64_t bytes = unit_size.nnr_unit_size;
  const std::uint64_t start = std::uint64_t{8} * offset;
  if (val(bytes) > context.max_unit_bytes) return Status{Code::limit_exceeded, "nnr_unit_size", start};
  if (bytes > size - offset) return Status{Code::truncated, "nnr_unit_size", start};
  unit.offset = offset;
  unit.size = static_cast<std::size_t>(bytes);
  unit.payload = BitReader(data, static_cast<std::size_t>(reader.position() >> 3), offset + unit.size);
  status = read(unit.payload, context, unit.header);
  if (!status.ok()) return status;
  if ((unit.payload.position() & 7) != 0) {
    return unit.payload.fail(Code::corrupt, "nnr_unit_header: not byte aligned");
  }
  return status;
}

// Nothing may follow the syntax inside a unit.
inline Status expect_end(const BitReader& reader) {
  if (reader.left() == 0) return Status{};
  return Status{Code::corrupt, "nnr_unit_size: bytes after the end of the syntax", reader.position()};
}

// Codebook entries in ascending order. `read` has checked that they fit.
inline Status codebook_entries(const Codebook& codebook, std::vector<std::int32_t>& entries) {
  const std::size_t zero = codebook.codebook_delta_left.size();
  if (!resize(entries, val(codebook.codebook_size))) return Status{Code::out_of_memory, "codebook_size", 0};
  std::int64_t value = codebook.codebook_zero_value;
  entries[zero] = static_cast<std::int32_t>(value);
  for (std::size_t j = 0; j < zero; ++j) {
    value -= 1 + static_cast<std::int64_t>(codebook.codebook_delta_left[j]);
    entries[zero - 1 - j] = static_cast<std::int32_t>(value);
  }
  value = codebook.codebook_zero_value;
  for (std::size_t j = 0; j < codebook.codebook_delta_right.size(); ++j) {
    value += 1 + static_cast<std::int64_t>(codebook.codebook_delta_right[j]);
    entries[zero + 1 + j] = static_cast<std::int32_t>(value);
  }
  return Status{};
}

// Distance in bits of every entry point from the one before it; all must lie inside `payload_bits` bits.
inline Status bit_offset_list(const CabacEntryPointList& list, std::uint64_t payload_bits,
                              std::vector<std::uint64_t>& distances) {
  if (!resize(distances, length(list.entry_points))) {
    return Status{Code::out_of_memory, "bit_offset_delta2", 0};
  }
  std::int64_t distance = 0;
  std::uint64_t left = payload_bits;
  for (std::size_t j = 0; j < distances.size(); ++j) {
    const CabacEntryPoint& point = list.entry_points[j];
    distance += static_cast<std::int64_t>(point.bit_offset_delta1) + point.bit_offset_delta2;
    if (distance < 0 || static_cast<std::uint64_t>(distance) > left) {
      return Status{Code::corrupt, "bit_offset_delta2: entry point outside the payload", 0};
    }
    distances[j] = static_cast<std::uint64_t>(distance);
    left -= distances[j];
  }
  return Status{};
}

}  // namespace syntax
}  // namespace nnc
"""
