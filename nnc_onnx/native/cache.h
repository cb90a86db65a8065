// Decoded tensors kept between uses, within a byte budget that all sessions of the process share.
//
// Inference uses the same tensors in the same order again and again; keeping the most recently used ones would then
// keep none long enough. So the cache learns which tensor follows which and drops the one whose next use is farthest
// away (Belady's rule). The same order says which tensors to decode ahead, on idle threads.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

namespace nnc {

// What a tensor is decoded from and to. Equal sources give equal tensors.
struct CacheSource {
  const std::uint8_t* payload = nullptr;
  std::size_t payload_bytes = 0;
  std::uint32_t crc32 = 0;  // finds candidates quickly; the bytes decide
  int element = 0;          // element type
  std::size_t bytes = 0;    // of the decoded tensor

  bool operator==(const CacheSource& other) const;
};

// A tensor of the cache, shared by all decode operators of all sessions that have the same payload. The fields belong
// to the cache and its lock; `owner` and `block` may also be read by whoever has claimed or pinned the entry.
struct CacheEntry {
  CacheEntry() = default;
  CacheEntry(const CacheEntry&) = delete;
  CacheEntry& operator=(const CacheEntry&) = delete;

  enum class State { absent, decoding, ready };

  struct User {
    void* owner;
    const std::uint8_t* payload;
    std::size_t budget;
  };

  CacheSource source;
  void* owner = nullptr;  // one of the users: whom to ask to decode ahead
  std::vector<User> users;
  std::uint64_t id = 0;
  std::uint64_t follower = 0;  // id of the entry that was used next, 0 when unknown
  std::uint64_t next_use = 0;  // uses from now until this one; scratch of a plan
  State state = State::absent;
  std::uint32_t pins = 0;
  std::uint8_t* block = nullptr;
  std::size_t capacity = 0;
};

class Cache {
 public:
  static Cache& instance();

  // The entry for `source`, whose payload stays where it is until `owner` is removed. `budget` is what the session of
  // `owner` asks for; the largest of all counts.
  CacheEntry& add(const CacheSource& source, void* owner, std::size_t budget);
  // Waits until nobody decodes the entry or, if `owner` is its last user, reads it. Then it may be gone.
  void remove(CacheEntry& entry, void* owner);

  struct Use {
    bool ready = false;                // `entry.block` holds the tensor and is pinned: call unpin
    bool claimed = false;              // decode it into `entry.block`, then call finish; it is pinned then
    std::vector<CacheEntry*> ahead{};  // decode these as well, then call finish
  };
  // Announces a use. With neither `ready` nor `claimed` the tensor does not fit and is decoded to where it is used.
  Use use(CacheEntry& entry, std::size_t ahead);

  // Ends a claim. Only the entry that was asked for stays pinned.
  void finish(CacheEntry& entry, bool decoded, bool pin);
  void unpin(CacheEntry& entry);

 private:
  Cache() = default;
  void measure(const CacheEntry& from);
  bool claim(CacheEntry& entry);
  void drop(CacheEntry& entry);
  std::size_t budget() const { return budgets_.empty() ? 0 : *budgets_.rbegin(); }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint64_t, std::unique_ptr<CacheEntry>> entries_;
  std::vector<CacheEntry*> later_;  // scratch of claim, large enough for all entries
  std::multiset<std::size_t> budgets_;
  std::uint64_t last_id_ = 0;
  std::size_t used_ = 0;
};

}  // namespace nnc
