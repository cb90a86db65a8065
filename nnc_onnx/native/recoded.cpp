#include "recoded.h"

#include <algorithm>
#include <cstring>
#include <cstring>
#include <new>
#include <utility>

#include "levels.h"
#include "stats.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace nnc {
namespace {

constexpr std::int8_t kFar = -128;  // while collecting, in the highest byte: stands for an integer of the list
constexpr std::size_t kElementsPerFar = 64;  // with more of them the form is not worth its memory
constexpr std::size_t kChunk = 1024;

std::uint8_t* bytes_of(std::vector<std::int8_t>& values) { return reinterpret_cast<std::uint8_t*>(values.data()); }

#ifdef __linux__
void advise(const std::uint8_t* bytes, std::size_t size, int advice) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes);
  const std::uintptr_t first = (address + page - 1) / page * page, end = (address + size) / page * page;
  if (first < end) (void)madvise(reinterpret_cast<void*>(first), end - first, advice);
}
#endif

// Gives the pages of memory that is not read again back to the system, before what takes its place needs as many.
void forget(std::uint8_t* bytes, std::size_t size) {
#ifdef __linux__
  advise(bytes, size, MADV_DONTNEED);
#else
  (void)bytes;
  (void)size;
#endif
}

// The list in order, without what a second reading of the payload took back. What it is in the way of becomes 0, which
// every tensor may have.
std::vector<FarLevel> in_order(std::vector<std::int8_t>& low, std::vector<std::int8_t>& high,
                               std::vector<FarLevel>& far) {
  std::vector<std::int8_t>& highest = high.empty() ? low : high;
  std::stable_sort(far.begin(), far.end(),
                   [](const FarLevel& a, const FarLevel& b) { return a.position < b.position; });
  std::vector<FarLevel> kept;
  kept.reserve(far.size());
  for (const FarLevel& level : far) {
    if (highest[level.position] != kFar) continue;
    if (!kept.empty() && kept.back().position == level.position)
      kept.back() = level;
    else
      kept.push_back(level);
  }
  for (const FarLevel& level : kept) low[level.position] = highest[level.position] = 0;
  return kept;
}

}  // namespace

LevelCollector::LevelCollector(const Reconstruction& how, std::uint64_t elements, bool wide)
    : how_(how), nearest_(wide ? 32000 : 127), low_(static_cast<std::size_t>(elements)), high_(wide ? low_.size() : 0) {}

bool LevelCollector::write(std::uint64_t position, const std::int32_t* values, std::size_t count) {
  std::int8_t* const low = low_.data() + position;
  std::int8_t* const high = high_.empty() ? nullptr : high_.data() + position;
  bool near = true;
  for (std::size_t i = 0; i < count; ++i) {
    low[i] = static_cast<std::int8_t>(values[i]);
    near &= is_near(values[i]);
  }
  for (std::size_t i = 0; high != nullptr && i < count; ++i)
    high[i] = static_cast<std::int8_t>((static_cast<std::int64_t>(values[i]) - low[i]) / 256);
  if (how_.codebook) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t index = static_cast<std::int64_t>(values[i]) + static_cast<std::int64_t>(how_.codebook_zero);
      if (index < 0 || static_cast<std::uint64_t>(index) >= how_.codebook_size) return false;
    }
  }
  if (near) return true;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t i = 0; i < count; ++i) {
    if (is_near(values[i])) continue;
    if (far_.size() > low_.size() / kElementsPerFar) return false;
    far_.push_back({position + i, values[i]});
    (high != nullptr ? high : low)[i] = kFar;
  }
  return true;
}

bool LevelCollector::zeros(std::uint64_t position, std::uint64_t count) {
  std::fill_n(low_.begin() + static_cast<std::ptrdiff_t>(position), count, std::int8_t{0});
  if (!high_.empty()) std::fill_n(high_.begin() + static_cast<std::ptrdiff_t>(position), count, std::int8_t{0});
  return true;
}

Recoded::Recoded(LevelCollector& collected, std::size_t block)
    : far_(in_order(collected.low_, collected.high_, collected.far_)),
      low_(bytes_of(collected.low_), collected.low_.size(), block, forget),
      high_(bytes_of(collected.high_), collected.high_.size(), block, forget) {
  stats().recoded_bytes += memory();
}

Recoded::~Recoded() { stats().recoded_bytes -= memory(); }

std::shared_ptr<const Recoded> Recoded::make(LevelCollector& collected, std::size_t block) {
  return std::shared_ptr<const Recoded>(new Recoded(collected, block));
}

// Calls use(position, levels, count) for the blocks, where `levels` is memory of level_memory(kBlock, 1) bytes.
template <class Use>
bool Recoded::for_each_block(std::size_t first, std::size_t count, Use use) const {
  const std::unique_ptr<std::uint8_t[]> levels(new (std::nothrow) std::uint8_t[level_memory(low_.block(), 1)]);
  if (levels == nullptr) return false;
  const PrefixCoded::Reader reader(low_);
  for (std::size_t block = first; block < first + count; ++block) {
    reader.read(block, levels.get());
    if (!use(std::uint64_t{block} * low_.block(), levels.get(), low_.size_of_block(block))) return false;
  }
  return true;
}

// The same with levels of two bytes.
template <class Use>
bool Recoded::for_each_wide_block(std::size_t first, std::size_t count, Use use) const {
  const std::size_t size = low_.block();
  const std::unique_ptr<std::int16_t[]> levels(new (std::nothrow) std::int16_t[size]);
  const std::unique_ptr<std::uint8_t[]> bytes(new (std::nothrow) std::uint8_t[2 * size]);
  if (levels == nullptr || bytes == nullptr) return false;
  const PrefixCoded::Reader low(low_), high(high_);
  for (std::size_t block = first; block < first + count; ++block) {
    const std::size_t length = low_.size_of_block(block);
    low.read(block, bytes.get());
    high.read(block, bytes.get() + size);
    for (std::size_t i = 0; i < length; ++i)
      levels[i] = static_cast<std::int16_t>(256 * static_cast<std::int8_t>(bytes[size + i]) +
                                            static_cast<std::int8_t>(bytes[i]));
    if (!use(std::uint64_t{block} * size, levels.get(), length)) return false;
  }
  return true;
}

bool Recoded::restore(const Reconstruction& how, std::size_t first, std::size_t count, void* out) const {
  const auto place = [&](std::uint64_t position) { return static_cast<std::uint8_t*>(out) + position * size_of(how.type); };
  const bool done =
      high_.count() == 0
          ? for_each_block(first, count,
                           [&](std::uint64_t position, std::uint8_t* levels, std::size_t length) {
                             prepare_levels(length, 1, levels);
                             restore_levels(how, length, 1, levels, 0, length, place(position));
                             return true;
                           })
          : for_each_wide_block(first, count, [&](std::uint64_t position, std::int16_t* levels, std::size_t length) {
              restore_levels(how, length, 2, levels, 0, length, place(position));
              return true;
            });
  ValueSink sink(how, out);
  return done && write_far(first, count, sink);
}

bool Recoded::read(std::size_t first, std::size_t count, IntegerSink& sink) const {
  const auto write = [&](std::uint64_t position, const auto* levels, std::size_t length) {
    std::int32_t chunk[kChunk];
    for (std::size_t at = 0; at < length;) {
      const std::size_t n = std::min(kChunk, length - at);
      std::copy(levels + at, levels + at + n, chunk);
      if (!sink.write(position + at, chunk, n)) return false;
      at += n;
    }
    return true;
  };
  const bool done = high_.count() == 0
                        ? for_each_block(first, count,
                                         [&](std::uint64_t position, std::uint8_t* levels, std::size_t length) {
                                           return write(position, reinterpret_cast<const std::int8_t*>(levels), length);
                                         })
                        : for_each_wide_block(first, count, write);
  return done && write_far(first, count, sink);
}

bool Recoded::write_far(std::size_t first, std::size_t count, IntegerSink& sink) const {
  return write_far_in(std::uint64_t{first} * low_.block(), std::uint64_t{first + count} * low_.block(), sink);
}

bool Recoded::write_far_in(std::uint64_t begin, std::uint64_t end, IntegerSink& sink) const {
  auto level = std::lower_bound(far_.begin(), far_.end(), begin,
                                [](const FarLevel& a, std::uint64_t position) { return a.position < position; });
  for (; level != far_.end() && level->position < end; ++level)
    if (!sink.write(level->position, &level->value, 1)) return false;
  return true;
}

Recoded::Cursor::Cursor(const Recoded& recoded, const Reconstruction& how)
    : recoded_(recoded),
      how_(how),
      low_(recoded.low_),
      high_(recoded.high_),
      block_(recoded.blocks()),
      bytes_(2 * recoded.low_.block()),
      wide_(recoded.low_.block()),
      part_(std::max(level_memory(recoded.low_.block(), 1), level_memory(recoded.low_.block(), 2)) / 8 + 1) {}

template <class Level>
void Recoded::Cursor::restore_part(const Level* levels, std::size_t count, void* out) {
  prepare_levels(count, sizeof(Level), part_.data());
  std::memcpy(part_.data(), levels, count * sizeof(Level));
  restore_levels(how_, count, sizeof(Level), part_.data(), 0, count, out);
}

void Recoded::Cursor::restore(std::uint64_t first, std::uint64_t count, void* out) {
  const std::size_t size = recoded_.low_.block();
  const bool wide = recoded_.high_.count() != 0;
  for (std::uint64_t at = first; at < first + count;) {
    const auto block = static_cast<std::size_t>(at / size);
    if (block != block_) {
      low_.read(block, bytes_.data());
      if (wide) high_.read(block, bytes_.data() + size);
      block_ = block;
    }
    const auto from = static_cast<std::size_t>(at % size);
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(size - from, first + count - at));
    void* const to = static_cast<std::uint8_t*>(out) + (at - first) * size_of(how_.type);
    const auto* const low = reinterpret_cast<const std::int8_t*>(bytes_.data()) + from;
    if (wide) {
      for (std::size_t i = 0; i < n; ++i) wide_[i] = static_cast<std::int16_t>(256 * low[size + i] + low[i]);
      restore_part(wide_.data(), n, to);
    } else {
      restore_part(low, n, to);
    }
    at += n;
  }
  ValueSink sink(how_, out, first);
  recoded_.write_far_in(first, first + count, sink);
}

std::shared_ptr<const Recoded> RecodedSlot::get() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return made_;
}

bool RecodedSlot::decoded_before() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(decoded_, true) || made_ != nullptr;
}

bool RecodedSlot::begin() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !std::exchange(begun_, true);
}

void RecodedSlot::finish(std::shared_ptr<const Recoded> made, bool again) {
  const std::lock_guard<std::mutex> lock(mutex_);
  made_ = std::move(made);
  if (again) begun_ = false;
}

void let_go(const std::uint8_t* payload, std::size_t size) {
#if defined(__linux__) && defined(MADV_PAGEOUT)
  // Advice only: pages are written back or, if they are those of a file, forgotten, and read again when touched.
  advise(payload, size, MADV_PAGEOUT);
#else
  (void)payload;
  (void)size;
#endif
}

}  // namespace nnc
