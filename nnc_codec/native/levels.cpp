#include "levels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu.h"

namespace nnc {

namespace {

constexpr std::size_t kChunk = 1024;

template <class T>
bool store_levels(void* out, std::uint64_t position, const std::int32_t* values, std::size_t count) {
  T* const to = static_cast<T*>(out) + position;
  std::int32_t low = 0, high = 0;
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = static_cast<T>(values[i]);
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  return low >= std::numeric_limits<T>::min() && high <= std::numeric_limits<T>::max();
}

template <class T>
NNC_INLINE void scale_loop(float step, const T* levels, std::uint64_t count, float* out) {
  for (std::uint64_t i = 0; i < count; ++i) out[i] = step * static_cast<float>(levels[i]);
}

template <class T>
void scale_portable(float step, const T* levels, std::uint64_t count, float* out) {
  scale_loop(step, levels, count, out);
}
#ifdef NNC_AVX2
template <class T>
NNC_TARGET_AVX2 void scale_avx2(float step, const T* levels, std::uint64_t count, float* out) {
  scale_loop(step, levels, count, out);
}
#endif

template <class T>
void scale(float step, const T* levels, std::uint64_t count, float* out) {
#ifdef NNC_AVX2
  if (has_avx2()) return scale_avx2(step, levels, count, out);
#endif
  scale_portable(step, levels, count, out);
}

// What each of the 256 levels stands for, in elements of the wanted type.
template <class Element>
void look_up(const Reconstruction& how, const std::int8_t* levels, std::uint64_t count, Element* out) {
  Element table[256] = {};
  ValueSink sink(how, table);
  for (std::int32_t level = -128; level < 128; ++level)
    sink.write(static_cast<std::uint8_t>(level), &level, 1);  // false outside the codebook: no such level is stored
  for (std::uint64_t i = 0; i < count; ++i) out[i] = table[static_cast<std::uint8_t>(levels[i])];
}

template <class T>
void convert(const Reconstruction& how, const T* levels, std::uint64_t count, void* out) {
  ValueSink sink(how, out);
  std::int32_t chunk[kChunk];
  for (std::uint64_t done = 0; done < count;) {
    const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, count - done));
    std::copy(levels + done, levels + done + n, chunk);
    sink.write(done, chunk, n);
    done += n;
  }
}

template <class T>
void restore(const Reconstruction& how, const T* levels, std::uint64_t count, void* out) {
  if (how.type == DType::float32 && !how.codebook && !how.integers)
    scale(how.step, levels, count, static_cast<float*>(out));
  else
    convert(how, levels, count, out);
}

}  // namespace

bool LevelSink::write(std::uint64_t position, const std::int32_t* values, std::size_t count) {
  if (how_.codebook) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t index = static_cast<std::int64_t>(values[i]) + static_cast<std::int64_t>(how_.codebook_zero);
      if (index < 0 || static_cast<std::uint64_t>(index) >= how_.codebook_size) return false;
    }
  }
  const bool fits = bytes_ == 1 ? store_levels<std::int8_t>(out_, position, values, count)
                                : store_levels<std::int16_t>(out_, position, values, count);
  too_wide_ |= !fits;
  return fits;
}

bool LevelSink::zeros(std::uint64_t position, std::uint64_t count) {
  std::memset(static_cast<std::uint8_t*>(out_) + position * bytes_, 0, count * bytes_);
  return true;
}

void restore_levels(const Reconstruction& how, unsigned bytes, const void* levels, std::uint64_t first,
                    std::uint64_t count, void* out) {
  const std::size_t size = size_of(how.type);
  auto* const to = static_cast<std::uint8_t*>(out) + first * size;
  if (bytes == 2) return restore(how, static_cast<const std::int16_t*>(levels) + first, count, to);
  const auto* const from = static_cast<const std::int8_t*>(levels) + first;
  const bool scaled = how.type == DType::float32 && !how.codebook;
  if (!how.integers && !scaled && size == 4) return look_up(how, from, count, reinterpret_cast<float*>(to));
  if (!how.integers && size == 2) return look_up(how, from, count, reinterpret_cast<std::uint16_t*>(to));
  restore(how, from, count, to);
}

}  // namespace nnc
