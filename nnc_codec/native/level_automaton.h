// Levels without a branch on any bin: what follows a bin is looked up, not decided.
//
// In dense data every other bin is a surprise, and a branch on it a misprediction. Here a node of a table stands for "this
// bin of this level in this state". It names, for both values of the bin, the next node, the next model and the integer
// that is complete with it, so that one loop decodes every kind of bin.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "arith_decoder.h"
#include "contexts.h"
#include "cpu.h"
#include "model.h"

namespace nnc {

// Keeps the models of a tensor, and the automaton of its levels if there is one.
class LevelAutomaton {
 public:
  explicit LevelAutomaton(const ContextLayout& layout) : layout_(layout), models_(new Model[layout.count]) {}

  std::size_t size() const { return layout_.count; }
  Model* models() { return table_ ? table_->models : models_.get(); }

#ifdef NNC_AVX2
  // Makes the automaton; false if there is none for this many greater-than flags. Pointers to models become invalid.
  bool build(std::uint32_t unary_length, bool dq);
  bool built() const { return table_ != nullptr; }
  // Decodes `count` integers of unbounded levels with neighbour contexts only. `state` is 0 without dependent quantization,
  // `neighbour` a neighbour_class(); both become those after the last level.
  NNC_TARGET_AVX2 void decode(ArithDecoder& decoder, std::int32_t* out, std::size_t count, std::uint32_t& state,
                              std::uint32_t& neighbour);
#endif

 private:
  static constexpr std::uint32_t kLongestUnary = 16;
  static constexpr std::uint32_t kPrefix = 8;  // bins of the prefix of a remainder that have nodes

  // Where a bin leads: the model of the next bin and its node, as offsets from the start of the table.
  struct Edge {
    std::uint32_t model;
    std::uint32_t node;
  };
  // The integer that is complete with a bin, if one is, and how far the place for integers moves, in bytes.
  struct Leaf {
    std::int32_t value;
    std::int32_t advance;
  };
  struct Node {
    Edge edge[2];
    Leaf leaf[2];
  };
  // One block, so that one register addresses it.
  struct Table {
    std::uint64_t rows[64];  // kRows
    Model models[53 + 4 * kLongestUnary + 34];
    Node nodes[8 * (3 + 3 + 2 * kLongestUnary + 2 * kPrefix)];
  };
  class Cursor;

  std::uint32_t significance(std::uint32_t state, std::uint32_t neighbour) const { return 3 * state + neighbour; }
  // Of bin k of the prefix of a remainder.
  std::uint32_t prefix_node(std::uint32_t state, std::uint32_t negative, std::uint32_t k) const {
    return (dq_ ? 8u : 1u) * (6 + 2 * unary_) + (2 * state + negative) * kPrefix + k;
  }
  Edge edge_to(std::uint32_t node, std::uint32_t model) const;
  Edge edge_to_significance(std::uint32_t state, std::uint32_t neighbour) const;

  ContextLayout layout_;
  std::unique_ptr<Model[]> models_;
  std::unique_ptr<Table> table_;
  std::uint32_t unary_ = 0;
  bool dq_ = false;
};

}  // namespace nnc
