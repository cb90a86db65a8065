// Constant tables of the arithmetic coder: LPS widths, estimator steps, parameter sets, state transitions.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace nnc {

inline constexpr int kWidthClasses = 8;
inline constexpr int kLpsColumns = 32;
inline constexpr int kParameterSets = 9;

// LPS width by width class (row) and |q >> 7| (column).
inline constexpr std::uint8_t kLps[kWidthClasses][kLpsColumns] = {
    {128, 112, 97, 84, 74, 65, 57, 50, 45, 39, 34, 30, 27, 23, 20, 18,
     15, 14, 12, 11, 10, 9, 7, 7, 5, 5, 4, 4, 3, 3, 2, 2},
    {142, 125, 108, 93, 82, 72, 63, 56, 50, 43, 38, 33, 30, 26, 22, 20,
     17, 16, 13, 12, 11, 10, 8, 8, 6, 6, 5, 5, 3, 3, 2, 2},
    {156, 137, 119, 103, 90, 79, 70, 61, 55, 48, 42, 37, 33, 28, 24, 22,
     19, 17, 15, 13, 12, 11, 9, 9, 6, 6, 5, 5, 4, 4, 2, 2},
    {171, 150, 130, 112, 99, 87, 76, 67, 60, 52, 46, 40, 36, 31, 27, 24,
     21, 19, 16, 15, 13, 12, 10, 10, 7, 7, 6, 6, 4, 4, 3, 3},
    {185, 162, 141, 121, 107, 94, 82, 73, 65, 56, 50, 43, 39, 34, 29, 26,
     22, 21, 17, 16, 14, 13, 11, 11, 8, 8, 6, 6, 4, 4, 3, 3},
    {199, 175, 152, 131, 115, 101, 89, 78, 70, 61, 54, 47, 42, 36, 31, 28,
     24, 22, 19, 17, 15, 14, 12, 12, 8, 8, 7, 7, 5, 5, 3, 3},
    {213, 187, 163, 140, 123, 108, 95, 84, 75, 65, 58, 50, 45, 39, 33, 30,
     26, 24, 20, 18, 16, 15, 13, 13, 9, 9, 7, 7, 5, 5, 3, 3},
    {228, 200, 174, 150, 132, 116, 102, 90, 80, 70, 62, 54, 48, 42, 36, 32,
     28, 26, 22, 20, 18, 16, 14, 14, 10, 10, 8, 8, 6, 6, 4, 4}};

inline constexpr std::uint8_t kStep[32] = {157, 143, 129, 115, 101, 87, 73, 59, 45, 35, 29, 23, 17, 13, 9, 5,
                                           4,   4,   4,   4,   4,   4,  4,  4,  4,  4,  4,  4,  4,  4,  4, 0};

// A parameter set fixes the speeds (shifts) and the start values of a model's two estimators.
struct ParameterSet {
  std::uint8_t fast_shift, slow_shift;
  std::int8_t f;
  std::int16_t s;
};
inline constexpr ParameterSet kParameterSet[kParameterSets] = {
    {1, 0, 0, 0},  {1, 0, -41, -654}, {1, 0, 95, 1519}, {0, 1, 0, 0},  {2, 2, 30, 482},
    {2, 2, 95, 1519}, {2, 2, -21, -337}, {3, 1, 0, 0},  {3, 1, 30, 482}};

// Dependent quantization: next state by [state][parity of the level].
inline constexpr std::uint8_t kNextState[8][2] = {{0, 2}, {7, 5}, {1, 3}, {6, 4}, {2, 0}, {5, 7}, {3, 1}, {4, 6}};

namespace detail {

// One byte per width class, so a model can carry its whole row in one register.
constexpr std::array<std::uint64_t, 64> make_rows() {
  std::array<std::uint64_t, 64> rows{};
  for (int i = 0; i < 64; ++i) {
    int column = i - 32;  // q >> 7
    if (column < 0) column = -column;
    if (column >= kLpsColumns) column = kLpsColumns - 1;
    std::uint64_t row = 0;
    for (int c = 0; c < kWidthClasses; ++c) row |= std::uint64_t{kLps[c][column]} << (8 * c);
    rows[static_cast<std::size_t>(i)] = row;
  }
  return rows;
}

// What a bin adds to the estimators of a model, by the bit and the estimator's distance from the middle. Both estimators
// are kept in the scale of q, 16 * f and s, so one index rule serves both: ((value - !bit) >> 7) + 16.
struct Steps {
  static constexpr std::ptrdiff_t kSlow = 64;  // from a step of the fast estimator to the slow one's
  std::int64_t step[128];                      // 32 of each for fast and a zero, fast and a one, slow and a zero, slow and a one

  std::int64_t fast(unsigned bit, unsigned i) const { return step[32 * bit + i]; }
  std::int64_t slow(unsigned bit, unsigned i) const { return step[kSlow + 32 * bit + i]; }
};
constexpr std::array<Steps, kParameterSets> make_steps() {
  std::array<Steps, kParameterSets> all{};
  for (int set = 0; set < kParameterSets; ++set) {
    Steps& t = all[static_cast<std::size_t>(set)];
    const int a = kParameterSet[set].fast_shift, b = kParameterSet[set].slow_shift;
    for (int i = 0; i < 32; ++i) {
      t.step[i] = -16 * (kStep[31 - i] >> a);
      t.step[32 + i] = 16 * (kStep[i] >> a);
      t.step[64 + i] = -(kStep[31 - i] >> b);
      t.step[96 + i] = kStep[i] >> b;
    }
  }
  return all;
}

// Zeros of a model with the smallest LPS widths: the width after 1, 2, 4 ... 64 of them, by width - 256; 0 if that
// takes more than reaching the renormalisation. `count` zeros lead from a width to `last`, the first one below 256.
struct ZeroRuns {
  std::uint16_t after[7][256];
  std::uint16_t last[256];
  std::uint8_t count[256];
};
constexpr ZeroRuns make_zero_runs() {
  ZeroRuns t{};
  for (int w = 0; w < 256; ++w) {
    const int next = 256 + w - kLps[w >> 5][kLpsColumns - 1];
    const bool ends = next < 256;
    t.after[0][w] = static_cast<std::uint16_t>(ends ? 0 : next);
    t.last[w] = ends ? static_cast<std::uint16_t>(next) : t.last[next - 256];
    t.count[w] = static_cast<std::uint8_t>(ends ? 1 : 1 + t.count[next - 256]);
  }
  for (int j = 1; j < 7; ++j)
    for (int w = 0; w < 256; ++w) {
      const int half = t.after[j - 1][w];
      t.after[j][w] = half ? t.after[j - 1][half - 256] : std::uint16_t{0};
    }
  return t;
}

// 2^26 / width, rounded up: for dividends below 2^17 the products' upper bits are the quotients.
constexpr std::array<std::uint32_t, 256> make_reciprocals() {
  std::array<std::uint32_t, 256> all{};
  for (std::uint32_t w = 0; w < 256; ++w) all[w] = ((1u << 26) + 255 + w) / (256 + w);
  return all;
}

}  // namespace detail

inline constexpr unsigned kReciprocalBits = 26;
inline constexpr std::array<std::uint32_t, 256> kReciprocals = detail::make_reciprocals();  // by width - 256
inline constexpr std::array<std::uint64_t, 64> kRows = detail::make_rows();
inline constexpr std::array<detail::Steps, kParameterSets> kSteps = detail::make_steps();
inline constexpr detail::ZeroRuns kZeroRuns = detail::make_zero_runs();

}  // namespace nnc
