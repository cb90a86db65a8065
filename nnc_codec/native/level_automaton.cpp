#include "level_automaton.h"

#ifdef NNC_AVX2
#include <algorithm>
#include <cstring>

namespace nnc {

namespace {

constexpr std::int32_t kStop = 0x40000000;  // an advance that leaves the loop

std::int32_t integer_of(std::uint32_t magnitude, bool negative, std::uint32_t state, bool dq) {
  const std::uint32_t multiple = dq ? 2 * magnitude - (state & 1u) : magnitude;
  return static_cast<std::int32_t>(negative ? 0u - multiple : multiple);
}

std::uint32_t next_state(std::uint32_t state, std::uint32_t magnitude, bool dq) {
  return dq ? kNextState[state][magnitude & 1] : 0;
}

}  // namespace

// An ArithDecoder in the registers of a loop. The end of the bits that were read is marked by a one behind them, which
// says the same as a count of them and needs no counting.
class LevelAutomaton::Cursor {
 public:
  Cursor(const ArithDecoder& a, std::uint64_t edge)
      : value_(marked(a.value_, a.valid_)), width_(a.width_), edge_(edge), position_(a.position_), data_(a.data_), size_(a.size_) {}

  void leave(ArithDecoder& a) const {
    a.value_ = value_ & (value_ - 1);
    a.valid_ = valid();
    a.width_ = static_cast<std::uint32_t>(width_);
    a.position_ = position_;
  }
  std::uint32_t node() const { return static_cast<std::uint32_t>(edge_ >> 32); }

  // Decodes a bin and goes where it leads.
  NNC_TARGET_AVX2 NNC_INLINE void step(char* table, std::uintptr_t& out) {
    Model& m = *reinterpret_cast<Model*>(table + static_cast<std::uint32_t>(edge_));
    const Node& node = *reinterpret_cast<const Node*>(table + (edge_ >> 32));
    std::uint64_t next, leaf;
    std::memcpy(&next, &node.edge[0], sizeof next);
    const std::uint64_t lps = static_cast<std::uint8_t>(m.row >> ((width_ >> 2) & 0x38u));
    std::uint64_t width = width_ - lps, value = value_, bit = value_, shift;
    const std::uint64_t scaled = width << ArithDecoder::kShift;
    // Compilers make branches of some of these choices.
    asm("sub %[scaled], %[bit]\n\t"
        "cmovnc %[lps], %[width]\n\t"
        "cmovnc %[bit], %[value]\n\t"
        "xor %[q], %[bit]\n\t"
        "shr $63, %[bit]\n\t"
        "cmovne %[one], %[next]\n\t"
        "lzcnt %k[width], %k[shift]"
        : [bit] "+&r"(bit), [width] "+&r"(width), [value] "+&r"(value), [next] "+&r"(next), [shift] "=r"(shift)
        : [scaled] "r"(scaled), [lps] "r"(lps), [q] "m"(m.q), [one] "m"(node.edge[1])
        : "cc");
    shift -= 23;
    width_ = static_cast<std::uint32_t>(width) << shift;
    value_ = value << shift;
    edge_ = next;
    move(m, bit, table);
    std::memcpy(&leaf, &node.leaf[bit], sizeof leaf);
    const std::int32_t integer = static_cast<std::int32_t>(leaf);
    std::memcpy(reinterpret_cast<void*>(out), &integer, sizeof integer);
    out += static_cast<std::uintptr_t>(static_cast<std::int64_t>(leaf) >> 32);
  }

  // Whether there are fewer bits than the window and what one bin can take.
  bool low() const { return (value_ << 18) == 0; }
  void refill() {
    const std::uint64_t next =
        __builtin_expect(position_ + 8 <= size_, 1) ? load_be64(data_ + position_) : ArithDecoder::tail(data_, size_, position_);
    const int before = valid();
    const int bytes = (63 - before) >> 3;
    position_ += static_cast<std::size_t>(bytes);
    value_ = marked((value_ & (value_ - 1)) | next >> before, before + 8 * bytes);
  }

 private:
  // As Model::update(), for a bin whose value is not decided by a branch: in fewer steps.
  NNC_TARGET_AVX2 static NNC_INLINE void move(Model& m, std::uint64_t bit, const char* table) {
    constexpr std::ptrdiff_t kSize = sizeof m.steps->step[0];
    static_assert(32 * kSize == 1 << 8, "from the steps by a zero to those by a one it is a rotation of the bit");
    const char* const by = reinterpret_cast<const char*>(m.steps) + (bit << 8 | bit >> 56) + 16 * kSize;
    const std::int64_t behind = static_cast<std::int64_t>(bit) - 1;
    std::int64_t f = m.fast, s = m.slow;
    f += *reinterpret_cast<const std::int64_t*>(by + kSize * ((f + behind) >> 7));
    s += *reinterpret_cast<const std::int64_t*>(by + kSize * (((s + behind) >> 7) + detail::Steps::kSlow));
    m.fast = static_cast<std::int32_t>(f);
    m.slow = static_cast<std::int32_t>(s);
    m.q = f + s;
    m.row = reinterpret_cast<const Table*>(table)->rows[(m.q >> 7) + 32];
  }
  static std::uint64_t marked(std::uint64_t value, int valid) {
    const std::uint64_t mark = std::uint64_t{1} << (63 - valid);
    return (value & (0 - 2 * mark)) | mark;
  }
  int valid() const { return 63 - __builtin_ctzll(value_); }

  std::uint64_t value_;
  std::uint64_t width_;
  std::uint64_t edge_;
  std::size_t position_;
  const std::uint8_t* data_;
  std::size_t size_;
};

LevelAutomaton::Edge LevelAutomaton::edge_to(std::uint32_t node, std::uint32_t model) const {
  return {static_cast<std::uint32_t>(offsetof(Table, models) + model * sizeof(Model)),
          static_cast<std::uint32_t>(offsetof(Table, nodes) + node * sizeof(Node))};
}

LevelAutomaton::Edge LevelAutomaton::edge_to_significance(std::uint32_t state, std::uint32_t neighbour) const {
  return edge_to(significance(state, neighbour), layout_.sig + significance(state, neighbour));
}

bool LevelAutomaton::build(std::uint32_t unary_length, bool dq) {
  if (unary_length > kLongestUnary) return false;
  std::unique_ptr<Table> table(new Table);
  std::copy(models_.get(), models_.get() + layout_.count, table->models);
  std::copy(kRows.begin(), kRows.end(), table->rows);
  unary_ = unary_length;
  dq_ = dq;
  const std::uint32_t states = dq ? 8 : 1;
  const auto edge_to_sign = [&](std::uint32_t state, std::uint32_t neighbour) {
    return edge_to(3 * states + 3 * state + neighbour, layout_.sign + neighbour);
  };
  const auto edge_to_greater = [&](std::uint32_t state, std::uint32_t negative, std::uint32_t j) {
    return edge_to(6 * states + (2 * state + negative) * unary_ + j, layout_.gt + 2 * j + negative);
  };
  const auto edge_to_prefix = [&](std::uint32_t state, std::uint32_t negative, std::uint32_t k) {
    return edge_to(prefix_node(state, negative, k), layout_.esc + k);
  };
  Node* node = table->nodes;
  for (std::uint32_t s = 0; s < states; ++s)
    for (std::uint32_t nb = 0; nb < 3; ++nb)
      *node++ = {{edge_to_significance(next_state(s, 0, dq), 0), edge_to_sign(s, nb)}, {{0, 4}, {0, 0}}};
  for (std::uint32_t s = 0; s < states; ++s)
    for (std::uint32_t nb = 0; nb < 3; ++nb)
      *node++ = {{edge_to_greater(s, 0, 0), edge_to_greater(s, 1, 0)}, {{0, 0}, {0, 0}}};
  for (std::uint32_t s = 0; s < states; ++s)
    for (std::uint32_t negative = 0; negative < 2; ++negative)
      for (std::uint32_t j = 0; j < unary_; ++j)
        *node++ = {{edge_to_significance(next_state(s, j + 1, dq), 2 - negative),
                    j + 1 < unary_ ? edge_to_greater(s, negative, j + 1) : edge_to_prefix(s, negative, 0)},
                   {{integer_of(j + 1, negative, s, dq), 4}, {0, 0}}};
  for (std::uint32_t s = 0; s < states; ++s)
    for (std::uint32_t negative = 0; negative < 2; ++negative)
      for (std::uint32_t k = 0; k < kPrefix; ++k) {
        // The loop ends where a suffix follows, or more of the prefix, which the integer tells.
        Node n{{edge_to_prefix(s, negative, k), edge_to_prefix(s, negative, k)}, {{0, kStop}, {1, kStop}}};
        if (k == 0) {
          n.edge[0] = edge_to_significance(next_state(s, unary_ + 1, dq), 2 - negative);
          n.leaf[0] = {integer_of(unary_ + 1, negative, s, dq), 4};
        }
        if (k + 1 < kPrefix) {
          n.edge[1] = edge_to_prefix(s, negative, k + 1);
          n.leaf[1] = {0, 0};
        }
        *node++ = n;
      }
  table_ = std::move(table);
  models_.reset();
  return true;
}

NNC_TARGET_AVX2 void LevelAutomaton::decode(ArithDecoder& decoder, std::int32_t* out, std::size_t count,
                                            std::uint32_t& state, std::uint32_t& neighbour) {
  const auto start = [&] {
    const Edge edge = edge_to_significance(state, neighbour);
    return std::uint64_t{edge.node} << 32 | edge.model;
  };
  char* const table = reinterpret_cast<char*>(table_.get());
  std::uintptr_t at = reinterpret_cast<std::uintptr_t>(out);
  const std::uintptr_t end = at + 4 * count;
  Cursor cursor(decoder, start());
  while (at < end) {
    {
      Cursor fast = cursor;
      std::uintptr_t place = at;
      do fast.step(table, place);
      while (!fast.low() && place < end);
      at = place;
      cursor = fast;
    }
    if (cursor.low()) cursor.refill();
    if (at < end) continue;
    std::uint32_t node = (cursor.node() - static_cast<std::uint32_t>(offsetof(Table, nodes))) / sizeof(Node);
    if (at == end) {
      state = node / 3;
      neighbour = node % 3;
      break;
    }
    // A remainder with a suffix.
    at -= kStop;
    cursor.leave(decoder);
    node -= prefix_node(0, 0, 0);
    std::uint32_t k = node % kPrefix;
    const std::uint32_t negative = node / kPrefix & 1;
    state = node / kPrefix >> 1;
    std::int32_t more;
    std::memcpy(&more, reinterpret_cast<const void*>(at), sizeof more);
    while (more && ++k < 31) more = static_cast<std::int32_t>(decoder.bin(table_->models[layout_.esc + k]));
    const std::uint32_t magnitude = unary_ + (std::uint32_t{1} << k) + decoder.bypass(k);
    const std::int32_t integer = integer_of(magnitude, negative != 0, state, dq_);
    std::memcpy(reinterpret_cast<void*>(at), &integer, sizeof integer);
    at += 4;
    state = next_state(state, magnitude, dq_);
    neighbour = 2 - negative;
    cursor = Cursor(decoder, start());
  }
  cursor.leave(decoder);
}

}  // namespace nnc
#endif
