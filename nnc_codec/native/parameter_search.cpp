#include "parameter_search.h"

#include <array>

#include "binarization.h"
#include "cost.h"

namespace nnc {

namespace {

// Sets with equal shifts move alike and end up in the same state once they have seen enough bins, so a model soon
// needs four running estimators instead of nine.
constexpr int kGroups = 4;
constexpr int kGroupOf[kParameterSets] = {0, 0, 0, 1, 2, 2, 2, 3, 3};
constexpr int kFastOf[kGroups] = {1, 0, 2, 3};
constexpr int kSlowOf[kGroups] = {0, 1, 2, 1};
constexpr std::uint64_t kIndexCost = 3 * kBypassCost;

struct Lane {
  int f = 0;
  int s = 0;
};

inline void step(Lane& lane, int group, unsigned bit) {
  lane.f = kFast.next[kFastOf[group]][bit][static_cast<std::uint8_t>(lane.f)];
  lane.s += kSlow.add[kSlowOf[group]][bit][((lane.s - static_cast<int>(bit ^ 1u)) >> 7) + 16];
}
inline std::uint32_t index_of(const Lane& lane) { return static_cast<std::uint32_t>(((16 * lane.f + lane.s) >> 3) + 512); }

// Trial of one model: the nine accumulators and the bins not yet tried.
class Trial {
 public:
  void start() {
    for (int i = 0; i < kParameterSets; ++i) lanes_[i] = {kParameterSet[i].f, kParameterSet[i].s};
    merged_ = false;
  }
  void add(unsigned bit, const CostTable& costs) {
    word_ = (word_ << 1) | bit;
    if (++bits_ == 64) flush(costs);
  }
  void flush(const CostTable& costs) {
    if (!bits_) return;
    if (merged_)
      run_merged(costs);
    else
      run_all(costs);
    word_ = 0;
    bits_ = 0;
  }
  std::uint8_t best() const {
    std::uint64_t least = cost_[0];
    std::uint8_t set = 0;
    for (int i = 1; i < kParameterSets; ++i)
      if (cost_[i] + kIndexCost < least) {
        least = cost_[i] + kIndexCost;
        set = static_cast<std::uint8_t>(i);
      }
    return set;
  }

 private:
  void run_all(const CostTable& costs) {
    for (int i = 0; i < kParameterSets; ++i) {
      Lane lane = lanes_[i];
      std::uint64_t cost = 0;
      for (int b = bits_; b-- > 0;) {
        const unsigned bit = static_cast<unsigned>(word_ >> b) & 1u;
        cost += costs.bit[bit][index_of(lane)];
        step(lane, kGroupOf[i], bit);
      }
      lanes_[i] = lane;
      cost_[i] += cost;
    }
    merged_ = same(0, 1) && same(0, 2) && same(4, 5) && same(4, 6) && same(7, 8);
  }
  void run_merged(const CostTable& costs) {
    Lane a = lanes_[0], b = lanes_[3], c = lanes_[4], d = lanes_[7];
    std::uint64_t ca = 0, cb = 0, cc = 0, cd = 0;
    for (int n = bits_; n-- > 0;) {
      const unsigned bit = static_cast<unsigned>(word_ >> n) & 1u;
      const std::uint32_t* const table = costs.bit[bit].data();
      ca += table[index_of(a)];
      cb += table[index_of(b)];
      cc += table[index_of(c)];
      cd += table[index_of(d)];
      step(a, 0, bit);
      step(b, 1, bit);
      step(c, 2, bit);
      step(d, 3, bit);
    }
    lanes_[0] = lanes_[1] = lanes_[2] = a;
    lanes_[3] = b;
    lanes_[4] = lanes_[5] = lanes_[6] = c;
    lanes_[7] = lanes_[8] = d;
    const std::uint64_t by_group[kGroups] = {ca, cb, cc, cd};
    for (int i = 0; i < kParameterSets; ++i) cost_[i] += by_group[kGroupOf[i]];
  }
  bool same(int i, int j) const { return lanes_[i].f == lanes_[j].f && lanes_[i].s == lanes_[j].s; }

  std::uint64_t word_ = 0;
  int bits_ = 0;
  bool merged_ = false;
  std::array<Lane, kParameterSets> lanes_{};
  std::array<std::uint64_t, kParameterSets> cost_{};
};

class Search {
 public:
  explicit Search(std::uint32_t models) : costs_(cost_table()), trials_(models) { restart(); }
  void bin(std::uint32_t model, bool bit) { trials_[model].add(bit, costs_); }
  void bypass(std::uint32_t, unsigned) {}
  void level() {}
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
  void flush() {
    for (Trial& t : trials_) t.flush(costs_);
  }
  void restart() {
    for (Trial& t : trials_) t.start();
  }
  const CostTable& costs_;
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
