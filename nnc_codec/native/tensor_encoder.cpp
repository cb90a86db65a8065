#include "tensor_encoder.h"

#include <algorithm>
#include <memory>

#include "binarization.h"
#include "level_lanes.h"
#include "parameter_search.h"

namespace nnc {

// Takes the bins of a walk to the coder.
class BinWriter {
 public:
  BinWriter(PayloadEncoder& owner, std::vector<EncoderModel>& models, [[maybe_unused]] const ContextLayout& layout,
            [[maybe_unused]] std::uint32_t unary)
      : owner_(owner), models_(models)
#ifdef NNC_AVX2
        , lanes_(layout, unary, equiprobable(layout)), in_lanes_(has_avx2() && unary <= LevelLanes::kLongest)
#endif
  {
  }

  void bin(std::uint32_t model, bool bit) {
    settle();
    owner_.coder_.bin(models_[model], bit);
  }
  void bypass(std::uint32_t value, unsigned bits) {
    settle();
    owner_.coder_.bypass(value, bits);
  }
  void bins(const std::uint16_t* list, std::size_t count) {
    settle();
#ifdef NNC_AVX2
    if (has_avx2()) return owner_.coder_.bins_avx2(models_.data(), list, count);
#endif
    owner_.coder_.bins(models_.data(), list, count);
  }
  void zeros(const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
    settle();
#ifdef NNC_AVX2
    if (has_avx2()) return owner_.coder_.zeros_avx2(models_.data(), cycle, length, count);
#endif
    owner_.coder_.zeros(models_.data(), cycle, length, count);
  }
  void block_row(std::uint32_t state) {
    settle();
    for (std::size_t i = 0; i + 1 < models_.size(); ++i) models_[i].restart();
    owner_.coder_.clamp();
    owner_.mark(state, true);
  }

  // Whether levels() takes these integers. Few of them are not worth the way of the models to the lanes and back.
  template <bool DQ>
  bool knows([[maybe_unused]] const std::int32_t* values, [[maybe_unused]] unsigned count) {
#ifdef NNC_AVX2
    if (!in_lanes_ || (count < kFew && !lanes_.holding())) return false;
    reach_ = lanes_.reach(values, count);
    return lanes_.worth<DQ>(reach_, count) && lanes_.knows<DQ>(reach_.most);
#else
    return false;
#endif
  }
  template <bool DQ>
  void levels([[maybe_unused]] const std::int32_t* values, [[maybe_unused]] unsigned count,
              [[maybe_unused]] std::uint32_t& state, [[maybe_unused]] std::uint32_t& neighbour) {
#ifdef NNC_AVX2
    if (!lanes_.holding()) lanes_.hold(models_.data());
    if (!places_) {
      places_.reset(new std::uint8_t[kChunk + kBlock * LevelLanes::kMostBins + LevelLanes::kSlack]);
      steps_.reset(new RangeStep[kChunk + kBlock * LevelLanes::kMostBins]);
    }
    if (reach_.far * kFarOften >= count)
      list<DQ, true>(values, count, state, neighbour);
    else
      list<DQ, false>(values, count, state, neighbour);
    if (listed_ >= kChunk) code_places();
#endif
  }
  // Codes what is waiting; all models are among the models after it.
  void settle() {
#ifdef NNC_AVX2
    if (!lanes_.holding()) return;
    code_places();
    lanes_.hand_back(models_.data());
#endif
  }

 private:
  PayloadEncoder& owner_;
  std::vector<EncoderModel>& models_;
#ifdef NNC_AVX2
  static constexpr unsigned kFew = 32;
  static constexpr unsigned kFarOften = 8;  // integers for each that has a remainder
  static constexpr std::size_t kBlock = 64;
  static constexpr std::size_t kChunk = 16384;  // bins

  template <bool DQ, bool FarOften>
  NNC_TARGET_AVX2 void list(const std::int32_t* values, unsigned count, std::uint32_t& state, std::uint32_t& neighbour) {
    std::uint8_t* const end =
        lanes_.take<DQ, FarOften>(values, count, models_.data(), state, neighbour, places_.get() + listed_);
    listed_ = static_cast<std::size_t>(end - places_.get());
  }
  void code_places() {
    owner_.coder_.places_avx2(places_.get(), listed_, steps_.get());
    listed_ = 0;
  }

  LevelLanes lanes_;
  bool in_lanes_;
  LevelLanes::Reach reach_{};
  std::unique_ptr<std::uint8_t[]> places_;
  std::unique_ptr<RangeStep[]> steps_;
  std::size_t listed_ = 0;
#endif
};

void PayloadEncoder::write_qp(std::int32_t qp_delta, unsigned bits) {
  coder_.bypass(static_cast<std::uint32_t>(qp_delta) & ((1u << bits) - 1u), bits);
}

void PayloadEncoder::mark(std::uint32_t state, bool listed) {
  marks_.push_back({coder_.shifts(), coder_.low9(), state, listed});
}

Status PayloadEncoder::write_tensor(const TensorCoding& coding, const EncodeOptions& options,
                                    const std::int32_t* values) {
  const ContextLayout layout(coding.unary_length);
  std::vector<EncoderModel> models(layout.count + 1);
  for (EncoderModel& m : models) m.load(0);
  models[equiprobable(layout)].fix();
  sets_.assign(layout.count, 0);
  std::vector<std::uint8_t> skip;
  const bool hist_on = coding.codes_tools() && options.hist_on && coding.history;
  if (coding.codes_tools()) {
    if (coding.parent_present || coding.temporal()) coder_.bypass(hist_on, 1);
    coder_.bypass(options.row_skipping, 1);
    if (options.row_skipping) {
      skip.resize(coding.rows);
      for (std::uint64_t y = 0; y < coding.rows; ++y) {
        const std::int32_t* const row = values + y * coding.cols;
        skip[y] = std::all_of(row, row + coding.cols, [](std::int32_t v) { return v == 0; });
        coder_.bin(models[layout.row], skip[y]);
      }
    }
  }
  const std::uint8_t* const rows = skip.empty() ? nullptr : skip.data();
  if (options.param_opt && coding.bound_size() != 1) sets_ = search_parameter_sets(coding, layout, values, rows, hist_on);
  std::vector<std::uint8_t> signalled(layout.count, 0);
  for_each_signalled(coding, hist_on, layout, [&](std::uint32_t model) {
    const std::uint32_t set = sets_[model];
    signalled[model] = 1;
    coder_.bin(models[layout.idf], set != 0);
    if (set) coder_.bypass(set - 1, 3);
    models[model].load(set);
  });
  for (std::uint32_t i = 0; i < layout.count; ++i)
    if (!signalled[i]) sets_[i] = 0;
  const std::uint64_t rows_of_blocks = block_rows(coding);
  if (rows_of_blocks >= 2) {
    coder_.clamp();
    mark(0, false);
  }
  if (coding.bound_size() == 1) {
    // No level is coded, but the entry points are listed.
    for (std::uint64_t i = 1; i < rows_of_blocks; ++i) mark(0, true);
    return {};
  }
  BinWriter writer(*this, models, layout, coding.unary_length);
  if (coding.dq)
    walk_levels<false, true>(coding, layout, values, rows, hist_on, writer);
  else
    walk_levels<false, false>(coding, layout, values, rows, hist_on, writer);
  writer.settle();
  return {};
}

const std::vector<std::uint8_t>& PayloadEncoder::finish() {
  const std::vector<std::uint8_t>& code = coder_.finish();
  // The decoder's window at a mark: the codeword's nine bits there less the interval's lower end.
  std::uint64_t previous = 0;
  for (const Mark& m : marks_) {
    if (m.listed) {
      std::uint32_t bits = 0;
      for (std::uint64_t i = m.shifts; i < m.shifts + 9; ++i)
        bits = bits << 1 | (code[static_cast<std::size_t>(i >> 3)] >> (7 - (i & 7)) & 1u);
      entries_.push_back({m.shifts - previous, (bits - m.low9) & 511u, m.state});
    }
    previous = m.shifts;
  }
  return code;
}

}  // namespace nnc
