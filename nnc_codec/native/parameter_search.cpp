#include "parameter_search.h"

#include "binarization.h"
#include "trial_kernels.h"

namespace nnc {

namespace {

constexpr std::uint64_t kIndexCost = 3 * kBypassCost;

// Trial of one model: the nine costs and the bins not yet tried.
class Trial {
 public:
  static constexpr std::uint32_t kWords = 64;

  void start() {
    for (int i = 0; i < kParameterSets; ++i) {
      lanes_.f[i] = kParameterSet[i].f;
      lanes_.s[i] = kParameterSet[i].s;
    }
    still_ = false;
  }
  // Takes a bin; true if there is no room for another.
  NNC_INLINE bool add(std::uint32_t bit) {
    word_ = (word_ << 1) | bit;
    if (__builtin_expect(++bits_ < 64, 1)) return false;
    words_[count_++] = word_;
    zero_words_ += word_ == 0;
    bits_ = 0;
    return full();
  }
  // The same for up to `count` zeros; returns how many were taken.
  std::uint64_t add_zeros(std::uint64_t count) {
    const std::uint64_t n = std::min<std::uint64_t>(count, 64 - bits_);
    word_ = n < 64 ? word_ << n : 0;
    bits_ += static_cast<std::uint32_t>(n);
    if (bits_ == 64) {
      words_[count_++] = word_;
      zero_words_ += word_ == 0;
      bits_ = 0;
    }
    return n;
  }
  bool full() const { return count_ == kWords; }
  std::uint32_t waiting() const { return count_ - first_; }
  // Words of zeros cost next to nothing one after the other.
  bool mostly_zeros() const { return 2 * zero_words_ > count_; }

  // Tries full words, as many as both have.
  static void pair(Trial& a, Trial& b) {
    const std::uint32_t n = std::min(a.waiting(), b.waiting());
    try_words_of_two(a.lanes_, a.words_.data() + a.first_, a.cost_, b.lanes_, b.words_.data() + b.first_, b.cost_, n);
    a.taken(n);
    b.taken(n);
  }
  void try_full_words() {
    while (first_ < count_) {
      const std::uint64_t word = words_[first_++];
      // A word of zeros that leaves all estimators where they are costs the same the next time.
      if (!(still_ && word == 0)) {
        const TrialLanes before = lanes_;
        word_cost_.fill(0);
        try_bins(lanes_, word, 64, word_cost_);
        still_ = word == 0 && before == lanes_;
      }
      for (std::size_t i = 0; i < kParameterSets; ++i) cost_[i] += word_cost_[i];
    }
    empty();
  }
  void try_rest() {
    if (bits_) try_bins(lanes_, word_ & ((std::uint64_t{1} << bits_) - 1), static_cast<int>(bits_), cost_);
    bits_ = 0;
  }
  std::uint8_t best() const {
    std::uint64_t least = cost_[0];
    std::uint8_t set = 0;
    for (std::uint8_t i = 1; i < kParameterSets; ++i)
      if (cost_[i] + kIndexCost < least) {
        least = cost_[i] + kIndexCost;
        set = i;
      }
    return set;
  }

 private:
  void taken(std::uint32_t n) {
    still_ = false;
    first_ += n;
    if (first_ == count_) empty();
  }
  void empty() { first_ = count_ = zero_words_ = 0; }

  std::uint64_t word_ = 0;
  std::uint32_t bits_ = 0;                 // of word_
  std::uint32_t first_ = 0, count_ = 0;    // full words not yet tried
  std::uint32_t zero_words_ = 0;
  bool still_ = false;
  TrialLanes lanes_{};
  TrialCosts cost_{};
  TrialCosts word_cost_{};
  std::array<std::uint64_t, kWords> words_{};
};

class Search {
 public:
  explicit Search(std::uint32_t models) : trials_(models) { restart(); }
  void bin(std::uint32_t model, bool bit) {
    if (trials_[model].add(bit)) make_room(trials_[model]);
  }
  void bypass(std::uint32_t, unsigned) {}
  void bins(const std::uint16_t* list, std::size_t count) {
    Trial* const trials = trials_.data();
    for (std::size_t i = 0; i < count; ++i) {
      Trial& t = trials[list[i] >> 1];
      if (__builtin_expect(t.add(list[i] & 1u), 0)) make_room(t);
    }
  }
  // The order among models does not matter here.
  void zeros(const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    for (std::uint32_t i = 0; i < length && i < count; ++i) {
      Trial& t = trials_[cycle[i]];
      for (std::uint64_t own = (count - i + length - 1) / length; own;) {
        own -= t.add_zeros(own);
        if (t.full()) make_room(t);
      }
    }
  }
  void block_row(std::uint32_t) {
    flush();
    restart();
  }
  std::vector<std::uint8_t> result() {
    flush();
    std::vector<std::uint8_t> sets(trials_.size());
    for (std::size_t i = 0; i < trials_.size(); ++i) sets[i] = trials_[i].best();
    return sets;
  }

 private:
  // The trial other than `busy` with the most words that are worth company.
  Trial* partner(const Trial& busy) {
    Trial* best = nullptr;
    for (Trial& t : trials_)
      if (&t != &busy && t.waiting() && !t.mostly_zeros() && (!best || t.waiting() > best->waiting())) best = &t;
    return best;
  }
  void make_room(Trial& full) {
    if (!full.mostly_zeros())
      if (Trial* const other = partner(full)) Trial::pair(full, *other);
    full.try_full_words();
  }
  void flush() {
    for (Trial& t : trials_) {
      while (t.waiting() && !t.mostly_zeros()) {
        Trial* const other = partner(t);
        if (!other) break;
        Trial::pair(t, *other);
      }
      t.try_full_words();
      t.try_rest();
    }
  }
  void restart() {
    for (Trial& t : trials_) t.start();
  }
  std::vector<Trial> trials_;
};

}  // namespace

std::vector<std::uint8_t> search_parameter_sets(const TensorCoding& coding, const ContextLayout& layout,
                                                const std::int32_t* values, const std::uint8_t* skip, bool hist_on) {
  Search search(layout.count);
  if (coding.dq)
    walk_levels<true, true>(coding, layout, values, skip, hist_on, search);
  else
    walk_levels<true, false>(coding, layout, values, skip, hist_on, search);
  return search.result();
}

}  // namespace nnc
