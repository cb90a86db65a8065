#include "reconstruct.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace nnc {

namespace {

constexpr std::size_t kChunk = 1024;

template <class T>
void store(std::uint8_t* out, std::uint64_t position, const T* values, std::size_t count) {
  std::memcpy(out + position * sizeof(T), values, count * sizeof(T));
}

template <class T>
bool store_integers(std::uint8_t* out, std::uint64_t position, const std::int32_t* values, std::size_t count) {
  T* const to = reinterpret_cast<T*>(out) + position;
  bool fits = true;
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = static_cast<T>(values[i]);
    fits &= static_cast<std::int64_t>(values[i]) >= static_cast<std::int64_t>(std::numeric_limits<T>::min()) &&
            (sizeof(T) >= 4 ? values[i] >= 0 || std::numeric_limits<T>::is_signed
                            : values[i] <= static_cast<std::int32_t>(std::numeric_limits<T>::max()));
  }
  return fits;
}

bool integers(DType type, std::uint8_t* out, std::uint64_t position, const std::int32_t* values, std::size_t count) {
  switch (type) {
    case DType::int8: return store_integers<std::int8_t>(out, position, values, count);
    case DType::uint8: return store_integers<std::uint8_t>(out, position, values, count);
    case DType::int16: return store_integers<std::int16_t>(out, position, values, count);
    case DType::uint16: return store_integers<std::uint16_t>(out, position, values, count);
    case DType::int32: return store_integers<std::int32_t>(out, position, values, count);
    case DType::uint32: return store_integers<std::uint32_t>(out, position, values, count);
    case DType::int64: return store_integers<std::int64_t>(out, position, values, count);
    case DType::uint64: return store_integers<std::uint64_t>(out, position, values, count);
    default: return false;
  }
}

bool is_float(DType type) {
  return type == DType::float32 || type == DType::float64 || type == DType::float16 || type == DType::bfloat16;
}

}  // namespace

std::size_t size_of(DType type) {
  switch (type) {
    case DType::int8:
    case DType::uint8: return 1;
    case DType::float16:
    case DType::bfloat16:
    case DType::int16:
    case DType::uint16: return 2;
    case DType::float64:
    case DType::int64:
    case DType::uint64: return 8;
    default: return 4;
  }
}

std::uint16_t to_bfloat16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

std::uint16_t to_float16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t a = bits & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (a >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (a >= 0x38800000u) {                                                   // normal
    const std::uint32_t rebased = a - 0x38000000u;
    return static_cast<std::uint16_t>(sign | (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13);
  }
  // Subnormal: adding 0.5 puts the rounding to 2^-24 where the float adder does it.
  float magnitude;
  std::memcpy(&magnitude, &a, 4);
  magnitude += 0.5f;
  std::uint32_t sum;
  std::memcpy(&sum, &magnitude, 4);
  return static_cast<std::uint16_t>(sign | (sum - 0x3f000000u));
}

void store_floats(DType type, void* out, std::uint64_t position, const float* values, std::size_t count) {
  std::uint8_t* const to = static_cast<std::uint8_t*>(out);
  std::uint16_t half[kChunk];
  double wide[kChunk];
  while (count) {
    const std::size_t n = std::min(kChunk, count);
    switch (type) {
      case DType::float16:
        std::transform(values, values + n, half, to_float16);
        store(to, position, half, n);
        break;
      case DType::bfloat16:
        std::transform(values, values + n, half, to_bfloat16);
        store(to, position, half, n);
        break;
      case DType::float64:
        std::copy(values, values + n, wide);
        store(to, position, wide, n);
        break;
      default:
        store(to, position, values, n);
    }
    values += n;
    position += n;
    count -= n;
  }
}

Status check(const Reconstruction& how) {
  if (how.integers == is_float(how.type))
    return {Code::invalid_argument, "payload type and element type do not go together", 0};
  return {};
}

bool ValueSink::write(std::uint64_t position, const std::int32_t* values, std::size_t count) {
  position -= first_;
  if (how_.integers) return integers(how_.type, out_, position, values, count);
  float chunk[kChunk];
  for (std::size_t done = 0; done < count;) {
    const std::size_t n = std::min(kChunk, count - done);
    const std::int32_t* const from = values + done;
    if (how_.codebook) {
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t index = static_cast<std::int64_t>(from[i]) + static_cast<std::int64_t>(how_.codebook_zero);
        if (index < 0 || static_cast<std::uint64_t>(index) >= how_.codebook_size) return false;
        chunk[i] = static_cast<float>(static_cast<double>(how_.codebook[index]) * static_cast<double>(how_.step));
      }
    } else {
      for (std::size_t i = 0; i < n; ++i) chunk[i] = how_.step * static_cast<float>(from[i]);
    }
    store_floats(how_.type, out_, position + done, chunk, n);
    done += n;
  }
  return true;
}

bool ValueSink::zeros(std::uint64_t position, std::uint64_t count) {
  if (how_.codebook) {
    const std::int32_t none[64] = {};
    for (std::uint64_t done = 0; done < count; done += 64)
      if (!write(position + done, none, static_cast<std::size_t>(std::min<std::uint64_t>(64, count - done)))) return false;
    return true;
  }
  std::memset(out_ + (position - first_) * size_of(how_.type), 0, count * size_of(how_.type));
  return true;
}

}  // namespace nnc
