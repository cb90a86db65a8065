// Decoded tensors kept between uses, within a byte budget that all sessions of the process share.
//
// Inference uses the same tensors in the same order again and again; keeping the most recently used ones would then
// keep none long enough. So the cache learns which tensor follows which and drops the one whose next use is farthest
// away (Belady's rule). The same order says which tensors to decode ahead, on idle threads.
//
// A tensor can be held as values, ready to be lent, or as levels: its integers, in a quarter or half of the memory, from
// which every use makes the values anew, much faster than decoding. Levels are for budgets that do not hold all values:
// then all tensors are held as levels first, and what the budget leaves makes values of as many as fit.
//
// Of tables that are looked up row by row only rows are kept (row_cache.h), within the same budget.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "recoded.h"
#include "row_cache.h"

namespace nnc {

// What a tensor is decoded from and to. Equal sources give equal tensors.
struct CacheSource {
  const std::uint8_t* payload = nullptr;
  std::size_t payload_bytes = 0;
  std::uint32_t crc32 = 0;  // finds candidates quickly; the bytes decide
  int element = 0;          // element type
  std::size_t bytes = 0;    // of the decoded tensor
  std::size_t element_bytes = 0;
  std::uint64_t rows = 1;  // first dimension

  bool operator==(const CacheSource& other) const;
};

// A party that asks for a tensor.
struct CacheUser {
  void* owner = nullptr;
  const std::uint8_t* payload = nullptr;
  std::size_t budget = 0;  // what its session asks for; the largest of all counts
  bool rows = false;       // wants rows only
  bool levels = false;     // agrees to levels; all users have to
  bool keeps = true;       // false: decodes at each use, and is here for the recoded form only

  bool wants_tensor() const { return keeps && !rows; }
};

// A tensor of the cache, shared by all decode operators of all sessions that have the same payload. The fields belong
// to the cache and its lock; `owner` and `block` may also be read by whoever has claimed or pinned the entry.
struct CacheEntry {
  CacheEntry() = default;
  CacheEntry(const CacheEntry&) = delete;
  CacheEntry& operator=(const CacheEntry&) = delete;

  enum class State { absent, decoding, ready };

  CacheSource source;
  void* owner = nullptr;  // one of the users that want the whole tensor, if any: whom to ask to decode ahead
  std::vector<CacheUser> users;
  std::unique_ptr<RowCache> rows;  // if a user wants rows
  RecodedSlot recoded;             // not counted in the budget: it takes the place of the payload in memory
  std::uint64_t id = 0;
  std::uint64_t follower = 0;  // id of the entry that was used next, 0 when unknown
  std::uint64_t next_use = 0;  // uses from now until this one; scratch of a plan
  State state = State::absent;
  std::uint32_t pins = 0;
  unsigned narrowest = 0;    // bytes per level that may be enough: 1, 2, or 0 if levels save nothing
  unsigned wanted = 0;       // bytes per level to hold it with when it is decoded next; 0: as values
  unsigned level_bytes = 0;  // of what `block` holds; 0: values
  std::uint8_t* block = nullptr;
  std::size_t capacity = 0;
};

class Cache {
 public:
  static Cache& instance();

  // The entry for `source`. The payload of `user` stays where it is until its owner is removed.
  CacheEntry& add(const CacheSource& source, const CacheUser& user);
  // Waits until nobody decodes the entry or, if `owner` is its last user, reads it. Then it may be gone.
  void remove(CacheEntry& entry, void* owner);

  struct Use {
    bool ready = false;                // `entry.block` holds the tensor in the form `entry.level_bytes`: call unpin
    bool claimed = false;              // decode it into `entry.block` in that form, then call finish; it is pinned then
    std::vector<CacheEntry*> ahead{};  // decode these as well, then call finish
  };
  // Announces a use. With neither `ready` nor `claimed` the tensor does not fit and is decoded to where it is used.
  Use use(CacheEntry& entry, std::size_t ahead);

  // Ends a claim. Only the entry that was asked for stays pinned.
  void finish(CacheEntry& entry, bool decoded, bool pin);
  void unpin(CacheEntry& entry);
  // The integers of a claimed entry are wider than expected. The claim is still to be finished.
  void widen(CacheEntry& entry);

  // Memory for rows; false when the budget has none to spare.
  bool reserve_rows(std::size_t bytes);
  void release_rows(std::size_t bytes);

 private:
  Cache() = default;
  void replan();
  void settle(CacheEntry& entry);
  void measure(const CacheEntry& from);
  bool claim(CacheEntry& entry);
  bool shed(std::size_t most);
  void count_used(std::size_t used);
  void drop(CacheEntry& entry);
  std::size_t budget() const { return budgets_.empty() ? 0 : *budgets_.rbegin(); }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint64_t, std::unique_ptr<CacheEntry>> entries_;
  std::vector<CacheEntry*> later_;  // scratch of claim, large enough for all entries
  std::multiset<std::size_t> budgets_;
  std::uint64_t last_id_ = 0;
  std::size_t used_ = 0;
  std::size_t rows_used_ = 0;  // the part of it that holds rows
  bool planned_ = false;       // `wanted` of all entries is up to date
};

}  // namespace nnc
