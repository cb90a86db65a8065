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

// Released blocks are kept for later requests, for fresh memory costs a page fault for every page; together with those in
// use they take no more than was in use at a time.
std::uint8_t* take_pooled_block(std::size_t bytes);
void give_pooled_block(std::uint8_t* block);
// Lets go of what is kept, when nobody is going to ask for it.
void release_pooled_blocks();

}  // namespace nnc
