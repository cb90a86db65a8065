#include "parameter_search.h"

#include "binarization.h"
#include "level_planes.h"
#include "trial_kernels.h"
#include "trial_pairs.h"

namespace nnc {

namespace {

constexpr std::uint64_t kIndexCost = 3 * kBypassCost;

// Trial of one model: the nine costs and the bins not yet tried.
class Trial {
 public:
  static constexpr std::uint32_t kWords = kPairWords;

  void start() {
    for (int i = 0; i < kParameterSets; ++i) {
      lanes_.f[i] = kParameterSet[i].f;
      lanes_.s[i] = kParameterSet[i].s;
    }
    still_ = false;
    fold_.reset();
  }
  // Takes 64 bins; true if there is no room for more.
  bool add(std::uint64_t word) {
    words_[count_++] = word;
    zero_words_ += word == 0;
    return full();
  }
  bool full() const { return count_ == kWords; }
  std::uint32_t waiting() const { return count_ - first_; }
  // Words of zeros cost next to nothing one after the other.
  bool mostly_zeros() const { return 2 * zero_words_ > count_; }

  // Tries full words until none are left or the trial can be one of a pair.
  void settle() {
    while (!fold_.found() && waiting()) try_word();
  }
  // Tries full words of two settled trials, as many as both have.
  static void pair(Trial& a, Trial& b) {
    const std::uint32_t n = std::min(a.waiting(), b.waiting());
    try_words_of_two(a.side(), b.side(), n);
    a.taken(n);
    b.taken(n);
  }
  void try_full_words() {
    while (waiting()) try_word();
  }
  void try_rest(std::uint64_t word, unsigned bins) {
    if (bins) try_bins(lanes_, word, bins, cost_);
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
  void try_word() {
    const std::uint64_t word = words_[first_];
    // A word of zeros that leaves all estimators where they are costs the same the next time.
    if (!(still_ && word == 0)) {
      const TrialLanes before = lanes_;
      word_cost_.fill(0);
      try_bins(lanes_, word, 64, word_cost_);
      still_ = word == 0 && before == lanes_;
    }
    for (std::size_t i = 0; i < kParameterSets; ++i) cost_[i] += word_cost_[i];
    if (!fold_.found()) fold_.find(lanes_);
    if (++first_ == count_) empty();
  }
  TrialSide side() { return {fold_, lanes_, words_.data() + first_, cost_}; }
  void taken(std::uint32_t n) {
    still_ = false;
    first_ += n;
    if (first_ == count_) empty();
  }
  void empty() { first_ = count_ = zero_words_ = 0; }

  std::uint32_t first_ = 0, count_ = 0;    // full words not yet tried
  std::uint32_t zero_words_ = 0;
  bool still_ = false;
  TrialLanes lanes_{};
  Fold fold_;
  TrialCosts cost_{};
  TrialCosts word_cost_{};
  std::array<std::uint64_t, kWords> words_{};
};

class Search {
 public:
  explicit Search(std::uint32_t models) : trials_(models), open_(models) { restart(); }
  void bin(std::uint32_t model, bool bit) { string(model, bit, 1); }
  void bypass(std::uint32_t, unsigned) {}
  void bins(const std::uint16_t* list, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) string(list[i] >> kBinBits, list[i] & 1u, 1);
  }
  // The order among models does not matter here.
  void zeros(const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    for (std::uint32_t i = 0; i < length && i < count; ++i)
      for (std::uint64_t own = (count - i + length - 1) / length; own;) {
        const unsigned n = static_cast<unsigned>(std::min<std::uint64_t>(own, 64));
        string(cycle[i], 0, n);
        own -= n;
      }
  }
  // `count` bins from 1 to 64 of one model, the first one in the lowest bit.
  NNC_INLINE void string(std::uint32_t model, std::uint64_t bits, unsigned count) {
    Open& open = open_[model];
    const unsigned held = open.count;
    const std::uint64_t word = open.word | bits << held;
    open.word = word;
    open.count = held + count;
    if (__builtin_expect(held + count >= 64, 0)) {
      open.count = held + count - 64;
      open.word = open.count ? bits >> (count - open.count) : 0;
      if (trials_[model].add(word)) make_room(trials_[model]);
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
  // Bins that fill no word yet.
  struct Open {
    std::uint64_t word = 0;
    unsigned count = 0;
  };

  // The trial other than `busy` with the most words that are worth company.
  Trial* partner(const Trial& busy) {
    Trial* best = nullptr;
    for (Trial& t : trials_)
      if (&t != &busy && t.waiting() && !t.mostly_zeros() && (!best || t.waiting() > best->waiting())) best = &t;
    return best;
  }
  // Tries all words of a trial, two trials at a time if that is worth it.
  void make_room(Trial& full) {
    while (full.waiting() && !full.mostly_zeros()) {
      full.settle();
      Trial* const other = partner(full);
      if (!other) break;
      other->settle();
      if (full.waiting() && other->waiting()) Trial::pair(full, *other);
    }
    full.try_full_words();
  }
  void flush() {
    for (Trial& t : trials_) make_room(t);
    for (std::size_t i = 0; i < trials_.size(); ++i) {
      trials_[i].try_rest(open_[i].word, open_[i].count);
      open_[i] = {};
    }
  }
  void restart() {
    for (Trial& t : trials_) t.start();
  }
  std::vector<Trial> trials_;
  std::vector<Open> open_;
};

#ifdef NNC_AVX2
template <bool DQ>
void walk_planes(const TensorCoding& t, const ContextLayout& layout, const std::int32_t* values, const std::uint8_t* skip,
                 Search& search) {
  PlaneWalk<DQ, Search> walk(layout, t.unary_length, search);
  if (!t.effective_scan() && !skip) return walk.take(values, static_cast<std::size_t>(t.rows * t.cols));
  for_each_segment(t.rows, t.cols, t.effective_scan(),
                   [&](std::uint64_t y, std::uint64_t x, std::uint64_t width, bool starts_block_row) {
                     if (starts_block_row) search.block_row(walk.state());
                     if (!skip || !skip[y])
                       walk.take(values + y * t.cols + x, static_cast<std::size_t>(width));
                     else if (DQ)
                       walk.skip(t.cols);
                     return true;
                   });
}
#endif

template <bool DQ>
void walk(const TensorCoding& coding, const ContextLayout& layout, const std::int32_t* values, const std::uint8_t* skip,
          bool hist_on, Search& search) {
#ifdef NNC_AVX2
  const bool contexts = coding.temporal() || hist_on;
  if (has_avx2() && !contexts && coding.unary_length <= kLongestPlanes)
    return walk_planes<DQ>(coding, layout, values, skip, search);
#endif
  walk_levels<true, DQ>(coding, layout, values, skip, hist_on, search);
}

}  // namespace

std::vector<std::uint8_t> search_parameter_sets(const TensorCoding& coding, const ContextLayout& layout,
                                                const std::int32_t* values, const std::uint8_t* skip, bool hist_on) {
  Search search(layout.count);
  if (coding.dq)
    walk<true>(coding, layout, values, skip, hist_on, search);
  else
    walk<false>(coding, layout, values, skip, hist_on, search);
  return search.result();
}

}  // namespace nnc
