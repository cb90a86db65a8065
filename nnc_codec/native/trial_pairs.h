// Two models at a time through the parameter-set search, once some of their sets have met.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "trial_kernels.h"

namespace nnc {

// Sets of one speed differ in where they start. Once the estimators of two of them are equal they stay so, and one lane
// does for both.
class Fold {
 public:
  static constexpr std::size_t kLanes = 8;

  // Forgets what was found.
  void reset() { found_ = false; }
  // Whether eight lanes do; they will do from then on.
  bool find(const TrialLanes& lanes);
  bool found() const { return found_; }

  std::size_t lane_of(std::size_t set) const { return lane_of_[set]; }
  std::size_t set_of(std::size_t lane) const { return set_of_[lane]; }

 private:
  bool found_ = false;
  std::array<std::uint8_t, kParameterSets> lane_of_{};
  std::array<std::uint8_t, kLanes> set_of_{};  // lanes that nobody needs repeat the first set
};

// One of the two: estimators of a fold that was found, full words of bins, and where their costs go.
struct TrialSide {
  const Fold& fold;
  TrialLanes& lanes;
  const std::uint64_t* words;
  TrialCosts& sum;
};

// Tries `count` <= kPairWords full words of each. Their states do not depend on each other, so that one fills the time in
// which the other waits.
inline constexpr std::size_t kPairWords = 64;
void try_words_of_two(const TrialSide& a, const TrialSide& b, std::size_t count);

}  // namespace nnc
