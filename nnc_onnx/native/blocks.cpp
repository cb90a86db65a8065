#include "blocks.h"

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

constexpr std::size_t kMostPooledBytes = std::size_t{64} << 20;

Header* header_of(const std::uint8_t* block) {
  return reinterpret_cast<Header*>(const_cast<std::uint8_t*>(block) - kBlockAlignment);
}

struct Pool {
  std::mutex mutex;
  std::multimap<std::size_t, std::uint8_t*> blocks;  // by capacity
  std::size_t bytes = 0;
};

Pool& pool() {
  static auto* instance = new Pool;  // never destroyed: sessions may outlive static destructors
  return *instance;
}

}  // namespace

std::uint8_t* allocate_block(std::size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kBlockAlignment) return nullptr;
  const std::size_t capacity = (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
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
  {
    Pool& shared = pool();
    const std::lock_guard<std::mutex> lock(shared.mutex);
    const auto found = shared.blocks.lower_bound(bytes);
    if (found != shared.blocks.end() && found->first - bytes <= bytes / 8 + kBlockAlignment) {
      std::uint8_t* block = found->second;
      shared.bytes -= found->first;
      shared.blocks.erase(found);
      return block;
    }
  }
  return allocate_block(bytes);
}

void give_pooled_block(std::uint8_t* block) {
  const std::size_t capacity = block_capacity(block);
  Pool& shared = pool();
  try {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    if (shared.bytes + capacity <= kMostPooledBytes) {
      shared.blocks.emplace(capacity, block);
      shared.bytes += capacity;
      return;
    }
  } catch (const std::bad_alloc&) {
    // No room even for the list: the block goes back to the system below.
  }
  release_block(block);
}

}  // namespace nnc
