#include "cache.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "blocks.h"
#include "stats.h"

namespace nnc {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// The entry this thread used last, across runs: the end of one run is followed by the start of the next.
thread_local std::uint64_t previous_use = 0;

}  // namespace

Cache& Cache::instance() {
  static auto* cache = new Cache;  // never destroyed: sessions may outlive static destructors
  return *cache;
}

bool CacheSource::operator==(const CacheSource& other) const {
  return crc32 == other.crc32 && payload_bytes == other.payload_bytes && element == other.element &&
         bytes == other.bytes &&
         (payload == other.payload || std::memcmp(payload, other.payload, payload_bytes) == 0);
}

CacheEntry& Cache::add(const CacheSource& source, void* owner, std::size_t budget) {
  const std::lock_guard<std::mutex> lock(mutex_);
  later_.reserve(entries_.size() + 1);
  CacheEntry* entry = nullptr;
  for (auto& item : entries_)
    if (item.second->source == source) entry = item.second.get();
  const auto asked = budgets_.insert(budget);
  try {
    if (entry == nullptr) {
      auto made = std::make_unique<CacheEntry>();
      made->source = source;
      made->owner = owner;
      made->id = last_id_ + 1;
      made->users.push_back({owner, source.payload, budget});
      entry = made.get();
      entries_.emplace(made->id, std::move(made));
      ++last_id_;
    } else {
      entry->users.push_back({owner, source.payload, budget});
    }
  } catch (...) {
    budgets_.erase(asked);
    throw;
  }
  return *entry;
}

void Cache::remove(CacheEntry& entry, void* owner) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return entry.state != CacheEntry::State::decoding && (entry.pins == 0 || entry.users.size() > 1);
  });
  const auto user = std::find_if(entry.users.begin(), entry.users.end(),
                                 [&](const CacheEntry::User& other) { return other.owner == owner; });
  budgets_.erase(budgets_.find(user->budget));
  entry.users.erase(user);
  if (entry.users.empty()) {
    drop(entry);
    const std::uint64_t id = entry.id;
    entries_.erase(id);
  } else {
    entry.owner = entry.users.front().owner;
    entry.source.payload = entry.users.front().payload;
  }
  // The budget may be smaller now. Any order of dropping would do.
  for (auto item = entries_.begin(); item != entries_.end() && used_ > this->budget(); ++item)
    if (item->second->state == CacheEntry::State::ready && item->second->pins == 0) drop(*item->second);
}

void Cache::drop(CacheEntry& entry) {
  if (entry.block == nullptr) return;
  release_block(entry.block);
  used_ -= entry.capacity;
  stats().cache_bytes.store(used_);
  entry.block = nullptr;
  entry.capacity = 0;
  entry.state = CacheEntry::State::absent;
}

// Follows the learned order from `from` and notes after how many uses each entry comes up.
void Cache::measure(const CacheEntry& from) {
  for (auto& item : entries_) item.second->next_use = kNever;
  std::uint64_t id = from.follower;
  for (std::uint64_t distance = 1; distance <= entries_.size(); ++distance) {
    const auto found = entries_.find(id);
    if (found == entries_.end() || found->second->next_use != kNever) return;
    found->second->next_use = distance;
    id = found->second->follower;
  }
}

// Makes room by dropping entries that are needed later than `entry`; false when there are not enough of them.
bool Cache::claim(CacheEntry& entry) {
  const std::size_t need = (entry.source.bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
  if (need > budget()) return false;
  later_.clear();
  std::size_t room = budget() > used_ ? budget() - used_ : 0;
  for (auto& item : entries_) {
    CacheEntry& other = *item.second;
    if (other.state == CacheEntry::State::ready && other.pins == 0 && other.next_use > entry.next_use)
      later_.push_back(&other);
  }
  std::sort(later_.begin(), later_.end(), [](const CacheEntry* a, const CacheEntry* b) {
    return a->next_use != b->next_use ? a->next_use > b->next_use : a->id < b->id;
  });
  std::size_t count = 0;
  while (room < need && count < later_.size()) room += later_[count++]->capacity;
  if (room < need) return false;
  std::uint8_t* block = nullptr;
  std::size_t capacity = 0;
  for (std::size_t i = 0; i < count; ++i) {
    ++stats().cache_evictions;
    CacheEntry& other = *later_[i];
    if (block == nullptr && other.capacity == need) {
      // A block of the right size changes hands: fresh memory costs a page fault for every page.
      block = other.block;
      capacity = other.capacity;
      other.block = nullptr;
      other.capacity = 0;
      other.state = CacheEntry::State::absent;
    } else {
      drop(other);
    }
  }
  if (block == nullptr) {
    block = allocate_block(need);
    if (block == nullptr) return false;
    capacity = block_capacity(block);
    used_ += need;
    stats().cache_bytes.store(used_);
    if (used_ > stats().cache_peak_bytes.load()) stats().cache_peak_bytes.store(used_);
  }
  set_block_lender(block, &entry);
  entry.block = block;
  entry.capacity = capacity;
  entry.state = CacheEntry::State::decoding;
  return true;
}

Cache::Use Cache::use(CacheEntry& entry, std::size_t ahead) {
  Use result;
  result.ahead.reserve(ahead);
  std::unique_lock<std::mutex> lock(mutex_);
  if (const auto before = entries_.find(previous_use); before != entries_.end()) before->second->follower = entry.id;
  previous_use = entry.id;
  changed_.wait(lock, [&] { return entry.state != CacheEntry::State::decoding; });
  if (entry.state == CacheEntry::State::ready) {
    ++entry.pins;
    ++stats().cache_hits;
    result.ready = true;
    return result;
  }
  ++stats().cache_misses;
  measure(entry);
  result.claimed = claim(entry);
  std::uint64_t id = entry.follower;
  for (std::uint64_t steps = 1; result.ahead.size() < ahead && steps < entries_.size(); ++steps) {
    const auto found = entries_.find(id);
    if (found == entries_.end() || found->second.get() == &entry) break;
    CacheEntry& next = *found->second;
    if (next.state == CacheEntry::State::absent) {
      if (!claim(next)) break;
      result.ahead.push_back(&next);
    }
    id = next.follower;
  }
  return result;
}

void Cache::finish(CacheEntry& entry, bool decoded, bool pin) {
  const std::lock_guard<std::mutex> lock(mutex_);
  entry.state = CacheEntry::State::ready;
  if (!decoded)
    drop(entry);
  else if (pin)
    ++entry.pins;
  changed_.notify_all();
}

void Cache::unpin(CacheEntry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  --entry.pins;
  // Only the end of a session waits for pins.
  if (entry.pins == 0) changed_.notify_all();
}

}  // namespace nnc
