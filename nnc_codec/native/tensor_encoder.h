// Encoding of tensors into one arithmetic codeword.
#pragma once
#include <cstdint>
#include <vector>

#include "arith_encoder.h"
#include "contexts.h"
#include "status.h"

namespace nnc {

struct EncodeOptions {
  bool row_skipping = false;
  bool param_opt = true;
  bool hist_on = false;  // hist_dep_sig_prob_enabled_flag, needs a history map
};

// Entry of cabac_entry_point_list().
struct ListedEntryPoint {
  std::uint64_t distance = 0;
  std::uint32_t window = 0;
  std::uint32_t state = 0;
};

class PayloadEncoder {
 public:
  // QP of the next tensor: 6 + qp_density bits, two's complement.
  void write_qp(std::int32_t qp_delta, unsigned bits);
  // Appends a tensor of rows * cols integers in raster order.
  Status write_tensor(const TensorCoding& coding, const EncodeOptions& options, const std::int32_t* values);
  // Ends the codeword; no more tensors after this.
  const std::vector<std::uint8_t>& finish();
  // After finish(): entry points of all tensors, in order of writing.
  const std::vector<ListedEntryPoint>& entry_points() const { return entries_; }
  // Parameter sets of the last tensor by model index (zero where none was chosen).
  const std::vector<std::uint8_t>& parameter_sets() const { return sets_; }

 private:
  friend class BinWriter;
  struct Mark {
    std::uint64_t shifts = 0;
    std::uint32_t low9 = 0;
    std::uint32_t state = 0;
    bool listed = false;  // false: reference position before the first level
  };
  void mark(std::uint32_t state, bool listed);

  ArithEncoder coder_;
  std::vector<Mark> marks_;
  std::vector<ListedEntryPoint> entries_;
  std::vector<std::uint8_t> sets_;
};

}  // namespace nnc
