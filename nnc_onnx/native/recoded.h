// A tensor's integers recoded for speed: in about the memory of its payload, and made into values much faster than it.
//
// CABAC decodes some ten million weights a second, which no inference can wait for. So a session that keeps few decoded
// tensors or none reads a payload once and goes on from the recoded form, which gives the same integers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "prefix_code.h"
#include "reconstruct.h"
#include "tensor_decoder.h"

namespace nnc {

// An integer that is too far from zero for its place.
struct FarLevel {
  std::uint64_t position;
  std::int32_t value;
};

// Collects the integers of a tensor, in a byte each or, if `wide`, in two; rejects them when too many do not fit. Several
// threads may write to one sink at a time, at different positions.
class LevelCollector final : public IntegerSink {
 public:
  // May throw std::bad_alloc.
  LevelCollector(const Reconstruction& how, std::uint64_t elements, bool wide);
  bool write(std::uint64_t position, const std::int32_t* values, std::size_t count) override;
  bool zeros(std::uint64_t position, std::uint64_t count) override;

 private:
  friend class Recoded;
  bool is_near(std::int32_t value) const { return value >= -nearest_ && value <= nearest_; }

  Reconstruction how_;
  std::int32_t nearest_;
  std::vector<std::int8_t> low_;
  std::vector<std::int8_t> high_;  // if wide: an integer is 256 * high + low
  std::mutex mutex_;
  std::vector<FarLevel> far_;
};

class Recoded {
 public:
  static constexpr std::size_t kBlock = std::size_t{1} << 16;        // elements that are read at a time
  static constexpr std::size_t kSmallBlock = std::size_t{1} << 10;  // the same where few are wanted at a time

  // Empties `collected`; may throw std::bad_alloc.
  static std::shared_ptr<const Recoded> make(LevelCollector& collected, std::size_t block);
  ~Recoded();
  Recoded(const Recoded&) = delete;
  Recoded& operator=(const Recoded&) = delete;

  std::size_t memory() const { return low_.memory() + high_.memory() + far_.capacity() * sizeof(FarLevel); }
  std::size_t blocks() const { return low_.blocks(); }  // that can be read alone

  // Values of the tensor, the same bits as ValueSink stores, at their place in `out`; false without memory.
  bool restore(const Reconstruction& how, std::size_t first, std::size_t count, void* out) const;
  // The integers; false when the sink rejects them or there is no memory.
  bool read(std::size_t first, std::size_t count, IntegerSink& sink) const;

  // Reads short ranges; consecutive ones that share a block decode it once.
  class Cursor {
   public:
    // May throw std::bad_alloc.
    Cursor(const Recoded& recoded, const Reconstruction& how);
    // Values of `count` elements from `first` on, to `out`.
    void restore(std::uint64_t first, std::uint64_t count, void* out);

   private:
    template <class Level>
    void restore_part(const Level* levels, std::size_t count, void* out);

    const Recoded& recoded_;
    Reconstruction how_;
    PrefixCoded::Reader low_, high_;
    std::size_t block_;  // the one that is decoded, or the number of all
    std::vector<std::uint8_t> bytes_;
    std::vector<std::int16_t> wide_;
    std::vector<std::uint64_t> part_;  // levels as restore_levels() wants them
  };

 private:
  Recoded(LevelCollector& collected, std::size_t block);
  template <class Use>
  bool for_each_block(std::size_t first, std::size_t count, Use use) const;
  template <class Use>
  bool for_each_wide_block(std::size_t first, std::size_t count, Use use) const;
  bool write_far(std::size_t first, std::size_t count, IntegerSink& sink) const;
  bool write_far_in(std::uint64_t begin, std::uint64_t end, IntegerSink& sink) const;

  std::vector<FarLevel> far_;  // by position
  PrefixCoded low_;
  PrefixCoded high_;  // empty unless wide
};

// Where the recoded form of a tensor is once one of its users has made it.
class RecodedSlot {
 public:
  // The form, or nullptr.
  std::shared_ptr<const Recoded> get() const;
  // Whether it pays to make the form although the cache gets the tensor now: it was decoded before, so it will be again.
  bool decoded_before();
  // True for the one who is to make the form and then to call finish().
  bool begin();
  // nullptr: there is none, and nobody tries again unless `again`.
  void finish(std::shared_ptr<const Recoded> made, bool again);

 private:
  mutable std::mutex mutex_;
  bool begun_ = false;
  bool decoded_ = false;
  std::shared_ptr<const Recoded> made_;
};

// Tells the system that a payload is hardly needed any more. It can still be read.
void let_go(const std::uint8_t* payload, std::size_t size);

}  // namespace nnc
