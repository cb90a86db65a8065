#include "levels.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>

#include "cpu.h"

namespace nnc {

namespace {

constexpr std::size_t kChunk = 1024;

constexpr std::int8_t kFar = -128;
constexpr std::uint64_t kElementsPerFar = 1024;  // room in the list: with more, two bytes an integer are better

// An integer that needs more than a byte.
struct Far {
  std::uint64_t position;
  std::int64_t value;
};

// The list behind the bytes; `count` may pass the room when there is none left.
struct FarList {
  std::atomic<std::uint64_t> count;
  // Followed by room for Far.
};
static_assert(sizeof(FarList) == 8, "the list starts 8 bytes behind its count");

std::uint64_t far_room(std::uint64_t elements) { return elements / kElementsPerFar + 1; }
std::uint64_t aligned(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

std::uint8_t* list_at(std::uint64_t elements, void* levels) {
  return static_cast<std::uint8_t*>(levels) + aligned(elements);
}
FarList* far_list(std::uint64_t elements, void* levels) {
  return reinterpret_cast<FarList*>(list_at(elements, levels));
}
Far* far_entries(std::uint64_t elements, void* levels) {
  return reinterpret_cast<Far*>(list_at(elements, levels) + sizeof(FarList));
}

// Stores what fits; false when something does not. `Low` to the largest T count as fitting.
template <class T, std::int32_t Low>
bool store_levels(void* out, std::uint64_t position, const std::int32_t* values, std::size_t count) {
  T* const to = static_cast<T*>(out) + position;
  std::int32_t low = 0, high = 0;
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = static_cast<T>(values[i]);
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  return low >= Low && high <= std::numeric_limits<T>::max();
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
  if (how.type == DType::float32 && !how.codebook)
    scale(how.step, levels, count, static_cast<float*>(out));
  else
    convert(how, levels, count, out);
}

}  // namespace

std::size_t level_memory(std::uint64_t elements, unsigned bytes) {
  const std::uint64_t list = bytes == 1 ? sizeof(FarList) + far_room(elements) * sizeof(Far) : 0;
  return static_cast<std::size_t>(aligned(elements * bytes) + list);
}

void prepare_levels(std::uint64_t elements, unsigned bytes, void* levels) {
  if (bytes == 1) ::new (list_at(elements, levels)) FarList{{0}};
}

bool LevelSink::write(std::uint64_t position, const std::int32_t* values, std::size_t count) {
  if (how_.codebook) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t index = static_cast<std::int64_t>(values[i]) + static_cast<std::int64_t>(how_.codebook_zero);
      if (index < 0 || static_cast<std::uint64_t>(index) >= how_.codebook_size) return false;
    }
  }
  const bool fits = bytes_ == 1
                        ? store_levels<std::int8_t, -127>(levels_, position, values, count) ||
                              list_far(position, values, count)
                        : store_levels<std::int16_t, std::numeric_limits<std::int16_t>::min()>(levels_, position,
                                                                                               values, count);
  too_wide_ |= !fits;
  return fits;
}

bool LevelSink::list_far(std::uint64_t position, const std::int32_t* values, std::size_t count) {
  auto* const to = static_cast<std::int8_t*>(levels_) + position;
  std::atomic<std::uint64_t>& listed = far_list(elements_, levels_)->count;
  Far* const entries = far_entries(elements_, levels_);
  for (std::size_t i = 0; i < count; ++i) {
    if (values[i] >= -127 && values[i] <= 127) continue;
    const std::uint64_t at = listed.fetch_add(1, std::memory_order_relaxed);
    if (at >= far_room(elements_)) return false;
    ::new (entries + at) Far{position + i, values[i]};
    to[i] = kFar;
  }
  return true;
}

bool LevelSink::zeros(std::uint64_t position, std::uint64_t count) {
  std::memset(static_cast<std::uint8_t*>(levels_) + position * bytes_, 0, count * bytes_);
  return true;
}

void restore_levels(const Reconstruction& how, std::uint64_t elements, unsigned bytes, const void* levels,
                    std::uint64_t first, std::uint64_t count, void* out) {
  const std::size_t size = size_of(how.type);
  auto* const to = static_cast<std::uint8_t*>(out) + first * size;
  if (bytes == 2) return restore(how, static_cast<const std::int16_t*>(levels) + first, count, to);
  const auto* const from = static_cast<const std::int8_t*>(levels) + first;
  const bool scaled = how.type == DType::float32 && !how.codebook;
  if (size == 4 && !scaled)
    look_up(how, from, count, reinterpret_cast<float*>(to));
  else if (size == 2)
    look_up(how, from, count, reinterpret_cast<std::uint16_t*>(to));
  else
    restore(how, from, count, to);
  void* const memory = const_cast<void*>(levels);
  const std::uint64_t listed =
      std::min(far_list(elements, memory)->count.load(std::memory_order_relaxed), far_room(elements));
  const Far* const entries = far_entries(elements, memory);
  ValueSink sink(how, out);
  for (std::uint64_t i = 0; i < listed; ++i) {
    const std::uint64_t position = entries[i].position;
    if (position < first || position - first >= count) continue;
    // A payload that was read twice lists the first reading too.
    if (static_cast<const std::int8_t*>(levels)[position] != kFar) continue;
    const auto value = static_cast<std::int32_t>(entries[i].value);
    sink.write(position, &value, 1);
  }
}

}  // namespace nnc
