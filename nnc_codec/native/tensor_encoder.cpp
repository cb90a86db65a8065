#include "tensor_encoder.h"

#include <algorithm>

#include "binarization.h"
#include "parameter_search.h"

namespace nnc {

// Takes the bins of a walk to the coder.
class BinWriter {
 public:
  BinWriter(PayloadEncoder& owner, std::vector<EncoderModel>& models) : owner_(owner), models_(models) {}

  void bin(std::uint32_t model, bool bit) { owner_.coder_.bin(models_[model], bit); }
  void bypass(std::uint32_t value, unsigned bits) { owner_.coder_.bypass(value, bits); }
  void bins(const std::uint16_t* list, std::size_t count) {
#ifdef NNC_AVX2
    if (has_avx2()) return owner_.coder_.bins_avx2(models_.data(), list, count);
#endif
    owner_.coder_.bins(models_.data(), list, count);
  }
  void zeros(const std::uint32_t* cycle, std::uint32_t length, std::uint64_t count) {
#ifdef NNC_AVX2
    if (has_avx2()) return owner_.coder_.zeros_avx2(models_.data(), cycle, length, count);
#endif
    owner_.coder_.zeros(models_.data(), cycle, length, count);
  }
  void block_row(std::uint32_t state) {
    for (std::size_t i = 0; i + 1 < models_.size(); ++i) models_[i].restart();
    owner_.coder_.clamp();
    owner_.mark(state, true);
  }

 private:
  PayloadEncoder& owner_;
  std::vector<EncoderModel>& models_;
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
  BinWriter writer(*this, models);
  if (coding.dq)
    walk_levels<false, true>(coding, layout, values, rows, hist_on, writer);
  else
    walk_levels<false, false>(coding, layout, values, rows, hist_on, writer);
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
