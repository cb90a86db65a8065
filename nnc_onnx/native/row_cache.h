// Rows of one table that are kept between look-ups: those that are asked for again stay (CLOCK, second chance).
//
// Making a row costs a hundred times what copying it does, and texts repeat their words. So a small share of the table
// is kept whatever the budget; more rows come out of the budget.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace nnc {

class RowCache {
 public:
  RowCache(std::uint64_t rows, std::size_t row_bytes);
  ~RowCache();
  RowCache(const RowCache&) = delete;
  RowCache& operator=(const RowCache&) = delete;

  // Copies row rows[i] to out + i * row_bytes if it is held; else adds i to `missing`, which has room for all.
  void take(const std::vector<std::uint64_t>& rows, std::uint8_t* out, std::vector<std::size_t>& missing);
  // Keeps rows[i] for all i in `which`, whose values lie at values + i * row_bytes. Beyond the share of the table more
  // rows need memory of the cache's budget; without it they replace others.
  void keep(const std::vector<std::uint64_t>& rows, const std::vector<std::size_t>& which, const std::uint8_t* values);
  // Drops all rows; returns the bytes that they took of the cache's budget.
  std::size_t clear();

 private:
  struct Slot {
    std::uint64_t row = 0;
    bool taken = false;
    bool recent = false;
  };

  std::uint8_t* at(std::size_t slot) const;
  std::size_t free_slot();
  void grow(std::size_t rows);
  bool add_chunk(std::uint8_t* chunk, std::size_t reserved);

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  const std::uint64_t rows_;
  const std::size_t row_bytes_;
  const std::size_t rows_per_chunk_;
  const std::size_t free_chunks_;  // that are not of the budget
  std::mutex mutex_;  // never held while the cache's lock is asked for
  std::vector<std::uint8_t*> chunks_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> slot_of_;  // by row: its slot, or kNone; empty until a row is kept
  std::size_t held_ = 0;
  std::size_t reserved_ = 0;  // bytes of the budget
  std::size_t hand_ = 0;
};

}  // namespace nnc
