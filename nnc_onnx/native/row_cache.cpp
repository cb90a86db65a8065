#include "row_cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "blocks.h"
#include "cache.h"
#include "stats.h"

namespace nnc {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{16} << 10;

}  // namespace

RowCache::RowCache(std::size_t row_bytes)
    : row_bytes_(row_bytes), rows_per_chunk_(std::max<std::size_t>(1, kChunkBytes / row_bytes)) {}

RowCache::~RowCache() { clear(); }

std::uint8_t* RowCache::at(std::size_t slot) const {
  return chunks_[slot / rows_per_chunk_] + slot % rows_per_chunk_ * row_bytes_;
}

void RowCache::take(const std::vector<std::uint64_t>& rows, std::uint8_t* out, std::vector<std::size_t>& missing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto found = slot_of_.find(rows[i]);
    if (found == slot_of_.end()) {
      missing.push_back(i);
      continue;
    }
    slots_[found->second].recent = true;
    std::memcpy(out + i * row_bytes_, at(found->second), row_bytes_);
  }
  stats().row_hits += rows.size() - missing.size();
}

void RowCache::keep(const std::vector<std::uint64_t>& rows, const std::vector<std::size_t>& which,
                    const std::uint8_t* values) {
  grow(which.size());
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slots_.empty()) return;
  for (std::size_t i : which) {
    if (slot_of_.count(rows[i]) != 0) continue;
    const std::size_t slot = free_slot();
    if (slots_[slot].taken) slot_of_.erase(slots_[slot].row);
    slots_[slot].taken = false;
    slot_of_.emplace(rows[i], slot);
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
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (slots_.size() - slot_of_.size() >= rows) return;
    }
    if (!Cache::instance().reserve_rows(bytes)) return;
    std::uint8_t* chunk = allocate_block(bytes);
    bool added = false;
    if (chunk != nullptr) {
      const std::lock_guard<std::mutex> lock(mutex_);
      try {
        slots_.reserve((chunks_.size() + 1) * rows_per_chunk_);
        chunks_.push_back(chunk);
        slots_.resize(chunks_.size() * rows_per_chunk_);
        added = true;
      } catch (const std::bad_alloc&) {
        // Rows are a help, not a need.
      }
    }
    if (added) continue;
    if (chunk != nullptr) release_block(chunk);
    Cache::instance().release_rows(bytes);
    return;
  }
}

std::size_t RowCache::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::size_t bytes = 0;
  for (std::uint8_t* chunk : chunks_) {
    bytes += block_capacity(chunk);
    release_block(chunk);
  }
  chunks_.clear();
  slots_.clear();
  slot_of_.clear();
  hand_ = 0;
  return bytes;
}

}  // namespace nnc
