#include "row_cache.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "blocks.h"
#include "cache.h"
#include "stats.h"

namespace nnc {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{16} << 10;
constexpr std::size_t kFreeShare = 32;  // a 32nd of a table: 950 of the 30,000 words of a sentence encoder

std::size_t rows_per_chunk(std::size_t row_bytes) { return std::max<std::size_t>(1, kChunkBytes / row_bytes); }

}  // namespace

RowCache::RowCache(std::uint64_t rows, std::size_t row_bytes)
    : rows_(rows),
      row_bytes_(row_bytes),
      rows_per_chunk_(rows_per_chunk(row_bytes)),
      free_chunks_(static_cast<std::size_t>(rows / kFreeShare) / rows_per_chunk(row_bytes)) {}

RowCache::~RowCache() { clear(); }

std::uint8_t* RowCache::at(std::size_t slot) const {
  return chunks_[slot / rows_per_chunk_] + slot % rows_per_chunk_ * row_bytes_;
}

void RowCache::take(const std::vector<std::uint64_t>& rows, std::uint8_t* out, std::vector<std::size_t>& missing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::uint32_t slot = held_ != 0 ? slot_of_[rows[i]] : kNone;
    if (slot == kNone) {
      missing.push_back(i);
      continue;
    }
    slots_[slot].recent = true;
    std::memcpy(out + i * row_bytes_, at(slot), row_bytes_);
  }
  stats().row_hits += rows.size() - missing.size();
}

void RowCache::keep(const std::vector<std::uint64_t>& rows, const std::vector<std::size_t>& which,
                    const std::uint8_t* values) {
  grow(which.size());
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return;
  for (std::size_t i : which) {
    if (slot_of_[rows[i]] != kNone) continue;
    const std::size_t slot = free_slot();
    if (slots_[slot].taken)
      slot_of_[slots_[slot].row] = kNone;
    else
      ++held_;
    slot_of_[rows[i]] = static_cast<std::uint32_t>(slot);
    slots_[slot] = {rows[i], true, false};
    std::memcpy(at(slot), values + i * row_bytes_, row_bytes_);
  }
}

// The next slot that is free or was not used since the hand passed it last.
std::size_t RowCache::free_slot() {
  for (;;) {
    const std::size_t slot = hand_;
    hand_ = hand_ + 1 == slots_.size() ? 0 : hand_ + 1;
    if (!slots_[slot].taken || !slots_[slot].recent) return slot;
    slots_[slot].recent = false;
  }
}

// Makes room for up to `rows` more rows than are held.
void RowCache::grow(std::size_t rows) {
  const std::size_t bytes =
      (rows_per_chunk_ * row_bytes_ + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
  for (;;) {
    bool is_free = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (slots_.size() - held_ >= rows || slots_.size() + rows_per_chunk_ >= kNone) return;
      is_free = chunks_.size() < free_chunks_;
    }
    if (!is_free && !Cache::instance().reserve_rows(bytes)) return;
    if (std::uint8_t* const chunk = allocate_block(bytes)) {
      if (add_chunk(chunk, is_free ? 0 : bytes)) continue;
      release_block(chunk);
    }
    if (!is_free) Cache::instance().release_rows(bytes);
    return;
  }
}

// `reserved` bytes of the budget were taken for the chunk. False without memory: rows are a help, not a need.
bool RowCache::add_chunk(std::uint8_t* chunk, std::size_t reserved) {
  const std::lock_guard<std::mutex> lock(mutex_);
  try {
    slot_of_.resize(static_cast<std::size_t>(rows_), kNone);
    slots_.reserve((chunks_.size() + 1) * rows_per_chunk_);
    chunks_.push_back(chunk);
  } catch (const std::bad_alloc&) {
    return false;
  }
  slots_.resize(chunks_.size() * rows_per_chunk_);
  reserved_ += reserved;
  return true;
}

std::size_t RowCache::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::uint8_t* chunk : chunks_) release_block(chunk);
  chunks_.clear();
  slots_.clear();
  std::vector<std::uint32_t>().swap(slot_of_);
  held_ = 0;
  hand_ = 0;
  return std::exchange(reserved_, 0);
}

}  // namespace nnc
