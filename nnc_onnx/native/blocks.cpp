#include "blocks.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

namespace nnc {
namespace {

struct Header {
  std::size_t capacity;
  CacheEntry* lender;
};
static_assert(sizeof(Header) <= kBlockAlignment, "the header lies before the aligned bytes");

std::size_t rounded(std::size_t bytes) { return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment; }

Header* header_of(const std::uint8_t* block) {
  return reinterpret_cast<Header*>(const_cast<std::uint8_t*>(block) - kBlockAlignment);
}

// Blocks for activations and scratch. What is kept never makes the sum larger than what was in use at a time.
struct Pool {
  using Blocks = std::multimap<std::size_t, std::uint8_t*>;

  std::mutex mutex;
  Blocks blocks;  // by capacity
  std::size_t kept = 0;
  std::size_t used = 0;
  std::size_t most_used = 0;

  void use(std::size_t capacity) {
    used += capacity;
    most_used = std::max(most_used, used);
  }
  std::uint8_t* take(Blocks::iterator found) {
    std::uint8_t* const block = found->second;
    kept -= found->first;
    use(found->first);
    blocks.erase(found);
    return block;
  }
  void shrink(std::size_t most) {
    while (kept > most) {
      kept -= blocks.begin()->first;
      release_block(blocks.begin()->second);
      blocks.erase(blocks.begin());
    }
  }
};

Pool& pool() {
  static auto* instance = new Pool;  // never destroyed: sessions may outlive static destructors
  return *instance;
}

}  // namespace

std::uint8_t* allocate_block(std::size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kBlockAlignment) return nullptr;
  const std::size_t capacity = rounded(bytes);
  void* memory = ::operator new(kBlockAlignment + capacity, std::align_val_t{kBlockAlignment}, std::nothrow);
  if (memory == nullptr) return nullptr;
  auto* block = static_cast<std::uint8_t*>(memory) + kBlockAlignment;
  ::new (header_of(block)) Header{capacity, nullptr};
  return block;
}

void release_block(std::uint8_t* block) {
  ::operator delete(static_cast<void*>(block - kBlockAlignment), std::align_val_t{kBlockAlignment});
}

std::size_t block_capacity(const std::uint8_t* block) { return header_of(block)->capacity; }

CacheEntry* block_lender(const std::uint8_t* block) { return header_of(block)->lender; }

void set_block_lender(std::uint8_t* block, CacheEntry* entry) { header_of(block)->lender = entry; }

std::uint8_t* take_pooled_block(std::size_t bytes) {
  const std::size_t need = rounded(bytes);
  if (need < bytes) return nullptr;
  {
    Pool& shared = pool();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    const auto found = shared.blocks.lower_bound(need);
    if (found != shared.blocks.end() && found->first - need <= need / 8) return shared.take(found);
    if (shared.used + shared.kept + need > shared.most_used) {
      // Where a new block would be too much, a large one for a small request is better than none for a large one.
      if (found != shared.blocks.end()) return shared.take(found);
      shared.shrink(shared.most_used > shared.used + need ? shared.most_used - shared.used - need : 0);
    }
    shared.use(need);
  }
  std::uint8_t* const block = allocate_block(bytes);
  if (block == nullptr) {
    Pool& shared = pool();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.used -= need;
  }
  return block;
}

void give_pooled_block(std::uint8_t* block) {
  const std::size_t capacity = block_capacity(block);
  Pool& shared = pool();
  {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.used -= capacity;
    try {
      if (shared.used + shared.kept + capacity <= shared.most_used) {
        shared.blocks.emplace(capacity, block);
        shared.kept += capacity;
        return;
      }
    } catch (const std::bad_alloc&) {
      // No room even for the list: the block goes back to the system below.
    }
  }
  release_block(block);
}

void release_pooled_blocks() {
  Pool& shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.shrink(0);
  shared.most_used = shared.used;
}

}  // namespace nnc
