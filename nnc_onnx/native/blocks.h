// Memory for tensors: blocks that remember their size and, if a cache entry lends them out, that entry.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nnc {

struct CacheEntry;

constexpr std::size_t kBlockAlignment = 256;

// A new block, or nullptr. Its capacity is `bytes` rounded up to the alignment.
std::uint8_t* allocate_block(std::size_t bytes);
void release_block(std::uint8_t* block);
std::size_t block_capacity(const std::uint8_t* block);

// The entry that lends the block out, or nullptr.
CacheEntry* block_lender(const std::uint8_t* block);
void set_block_lender(std::uint8_t* block, CacheEntry* entry);

// Released blocks are kept for the next request of about their size, within a bound: fresh memory costs a page fault
// for every page.
std::uint8_t* take_pooled_block(std::size_t bytes);
void give_pooled_block(std::uint8_t* block);

}  // namespace nnc
