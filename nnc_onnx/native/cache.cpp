#include "cache.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "blocks.h"
#include "levels.h"
#include "stats.h"

namespace nnc {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// The entry this thread used last, across runs: the end of one run is followed by the start of the next.
thread_local std::uint64_t previous_use = 0;

// Rows may take a quarter of the budget where nothing else needs it, and push tensors out for a sixteenth of it: a row
// that is found saves decoding a block row, but no more than a few thousand are asked for again and again.
constexpr std::size_t kMostRows = 4;
constexpr std::size_t kLeastRows = 16;

std::size_t rounded(std::size_t bytes) { return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment; }

// Bytes of a tensor held in a form.
std::size_t size_as(const CacheEntry& entry, unsigned level_bytes) {
  if (level_bytes == 0) return rounded(entry.source.bytes);
  return rounded(level_memory(entry.source.bytes / entry.source.element_bytes, level_bytes));
}

// Whether the plan has become tighter since the entry was decoded: decoded again it takes less room.
bool is_oversized(const CacheEntry& entry) { return entry.wanted != 0 && entry.level_bytes == 0; }

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

CacheEntry& Cache::add(const CacheSource& source, const CacheUser& user) {
  const std::lock_guard<std::mutex> lock(mutex_);
  later_.reserve(entries_.size() + 1);
  CacheEntry* entry = nullptr;
  for (auto& item : entries_)
    if (item.second->source == source) entry = item.second.get();
  const auto asked = budgets_.insert(user.budget);
  bool counted = false;
  try {
    if (entry == nullptr) {
      auto made = std::make_unique<CacheEntry>();
      made->source = source;
      made->id = last_id_ + 1;
      made->narrowest = source.element_bytes > 1 ? 1 : 0;
      entry = made.get();
      entries_.emplace(made->id, std::move(made));
      ++last_id_;
    }
    entry->users.push_back(user);
    counted = true;
    if (user.rows && entry->rows == nullptr)
      entry->rows = std::make_unique<RowCache>(source.rows, source.bytes / static_cast<std::size_t>(source.rows));
  } catch (...) {
    budgets_.erase(asked);
    if (counted) entry->users.pop_back();
    if (entry != nullptr && entry->users.empty()) {
      const std::uint64_t id = entry->id;
      entries_.erase(id);
    }
    throw;
  }
  // Others may be decoding the entry and read its owner, which changes only from nobody to somebody.
  if (entry->owner == nullptr && user.wants_tensor()) entry->owner = user.owner;
  planned_ = false;
  return *entry;
}

// After a user has gone, while nobody decodes the entry: whose payload to read, whom to ask.
void Cache::settle(CacheEntry& entry) {
  entry.source.payload = entry.users.front().payload;
  entry.owner = nullptr;
  for (const CacheUser& user : entry.users)
    if (user.wants_tensor() && entry.owner == nullptr) entry.owner = user.owner;
  planned_ = false;
}

void Cache::remove(CacheEntry& entry, void* owner) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return entry.state != CacheEntry::State::decoding && (entry.pins == 0 || entry.users.size() > 1);
  });
  const auto user = std::find_if(entry.users.begin(), entry.users.end(),
                                 [&](const CacheUser& other) { return other.owner == owner; });
  budgets_.erase(budgets_.find(user->budget));
  entry.users.erase(user);
  if (entry.users.empty()) {
    drop(entry);
    if (entry.rows != nullptr) {
      const std::size_t bytes = entry.rows->clear();
      rows_used_ -= bytes;
      count_used(used_ - bytes);
    }
    const std::uint64_t id = entry.id;
    entries_.erase(id);
    planned_ = false;
  } else {
    settle(entry);
  }
  // The budget may be smaller now. Any order of dropping would do.
  for (auto item = entries_.begin(); item != entries_.end() && rows_used_ > budget() / kMostRows; ++item) {
    if (item->second->rows == nullptr) continue;
    const std::size_t bytes = item->second->rows->clear();
    rows_used_ -= bytes;
    count_used(used_ - bytes);
  }
  for (auto item = entries_.begin(); item != entries_.end() && used_ > budget(); ++item)
    if (item->second->state == CacheEntry::State::ready && item->second->pins == 0) drop(*item->second);
}

void Cache::count_used(std::size_t used) {
  used_ = used;
  stats().cache_bytes.store(used);
  if (used > stats().cache_peak_bytes.load()) stats().cache_peak_bytes.store(used);
}

// Decides which tensors are held as levels, and which as values.
void Cache::replan() {
  planned_ = true;
  std::size_t values = 0, levels = 0;
  bool tables = false;
  later_.clear();
  for (auto& item : entries_) {
    CacheEntry& entry = *item.second;
    tables |= entry.rows != nullptr;
    if (entry.owner == nullptr) continue;
    bool may = entry.narrowest != 0;
    for (const CacheUser& user : entry.users) may &= !user.wants_tensor() || user.levels;
    entry.wanted = may ? entry.narrowest : 0;
    values += size_as(entry, 0);
    levels += size_as(entry, entry.wanted);
    later_.push_back(&entry);
  }
  const std::size_t reserved = tables ? budget() / kLeastRows : 0;
  std::size_t room = budget() - reserved;
  if (values <= room) {
    for (CacheEntry* entry : later_) entry->wanted = 0;
    return;
  }
  if (levels > room) return;
  room -= levels;
  std::sort(later_.begin(), later_.end(), [](const CacheEntry* a, const CacheEntry* b) { return a->id < b->id; });
  for (CacheEntry* entry : later_) {
    const std::size_t more = size_as(*entry, 0) - size_as(*entry, entry->wanted);
    if (entry->wanted == 0 || more > room) continue;
    room -= more;
    entry->wanted = 0;
  }
}

void Cache::drop(CacheEntry& entry) {
  if (entry.block == nullptr) return;
  release_block(entry.block);
  count_used(used_ - entry.capacity);
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

// Makes room by dropping entries that are needed later than `entry` or hold more than they should; false when there are not enough of them.
bool Cache::claim(CacheEntry& entry) {
  if (!planned_) replan();
  const std::size_t need = size_as(entry, entry.wanted);
  if (need > budget()) return false;
  later_.clear();
  std::size_t room = budget() > used_ ? budget() - used_ : 0;
  for (auto& item : entries_) {
    CacheEntry& other = *item.second;
    if (other.state != CacheEntry::State::ready || other.pins != 0) continue;
    if (other.next_use > entry.next_use || is_oversized(other)) later_.push_back(&other);
  }
  std::sort(later_.begin(), later_.end(), [](const CacheEntry* a, const CacheEntry* b) {
    if (is_oversized(*a) != is_oversized(*b)) return is_oversized(*a);
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
    count_used(used_ + need);
  }
  set_block_lender(block, &entry);
  entry.block = block;
  entry.capacity = capacity;
  entry.level_bytes = entry.wanted;
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
      if (next.owner == nullptr || !claim(next)) break;
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

void Cache::widen(CacheEntry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const unsigned wider = 2 * entry.level_bytes;
  entry.narrowest = wider <= 2 && wider < entry.source.element_bytes ? wider : 0;
  planned_ = false;
}

bool Cache::reserve_rows(std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t rows = rows_used_ + bytes;
  if (rows > budget() / kMostRows) return false;
  if (used_ + bytes > budget() && (rows > budget() / kLeastRows || !shed(budget() - bytes))) return false;
  rows_used_ = rows;
  count_used(used_ + bytes);
  return true;
}

void Cache::release_rows(std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rows_used_ -= bytes;
  count_used(used_ - bytes);
}

// Drops tensors, those that are needed latest first, until no more than `most` bytes are used; false when that fails.
bool Cache::shed(std::size_t most) {
  while (used_ > most) {
    CacheEntry* last = nullptr;
    for (auto& item : entries_) {
      CacheEntry& other = *item.second;
      if (other.state != CacheEntry::State::ready || other.pins != 0) continue;
      if (last == nullptr || other.next_use > last->next_use ||
          (other.next_use == last->next_use && other.id < last->id))
        last = &other;
    }
    if (last == nullptr) return false;
    ++stats().cache_evictions;
    drop(*last);
  }
  return true;
}

}  // namespace nnc
