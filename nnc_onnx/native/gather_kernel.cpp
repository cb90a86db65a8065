#include "gather_kernel.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "blocks.h"
#include "clock.h"
#include "decoding.h"
#include "message.h"
#include "parallel.h"
#include "stats.h"

namespace nnc {
namespace {

constexpr std::size_t kPayload = 0, kIndices = 1;
constexpr std::size_t kLeastRowsOfPart = 64;  // fewer are not worth a second thread

// A block of pooled memory, given back at the end.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : block_(take_pooled_block(bytes)) {}
  ~Scratch() {
    if (block_ != nullptr) give_pooled_block(block_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::uint8_t* get() const { return block_; }

 private:
  std::uint8_t* block_;
};

// Positions [first, end) of the wanted rows that lie in one block row.
struct Group {
  std::size_t first;
  std::size_t end;
};

}  // namespace

GatherKernel::GatherKernel(const ort::Api* api, const OpType& type, const SessionConfig& config)
    : api_(api), config_(config), input_(api, type) {
  ++stats().kernels;
}

GatherKernel::~GatherKernel() {
  if (entry_ != nullptr) Cache::instance().remove(*entry_, this);
  if (--stats().kernels == 0) release_pooled_blocks();
}

ort::Status* GatherKernel::create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                                  const SessionConfig& config, GatherKernel** out) {
  std::unique_ptr<GatherKernel> kernel(new GatherKernel(api, type, config));
  CodedInput& input = kernel->input_;
  if (ort::Status* status = input.read(info, ort::payload_owner(api, info))) return status;
  if (input.shape().empty()) return fail(api, kCodeMismatch, input.where(), "a table has at least one dimension");
  kernel->height_ = static_cast<std::uint64_t>(input.shape()[0]);
  kernel->row_bytes_ = kernel->height_ ? input.bytes() / static_cast<std::size_t>(kernel->height_) : 0;
  if (kernel->row_bytes_ != 0 && input.constant().data != nullptr)
    kernel->entry_ = &Cache::instance().add(
        input.source(), {kernel.get(), input.constant().data, config.cache_bytes, true, config.levels});
  *out = kernel.release();
  return nullptr;
}

template <class Index>
ort::Status* GatherKernel::check_indices(const Index* indices, std::size_t count,
                                         std::vector<std::uint64_t>* rows) const {
  const auto height = static_cast<std::int64_t>(height_);
  rows->resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t index = indices[i];
    if (index < -height || index >= height) {
      // What onnxruntime's Gather says.
      const std::string text = "indices element out of data bounds, idx=" + std::to_string(index) +
                               " must be within the inclusive range [" + std::to_string(-height) + "," +
                               std::to_string(height - 1) + "]";
      return ort::CreateStatus::call(api_, ort::kInvalidArgument, text.c_str());
    }
    (*rows)[i] = static_cast<std::uint64_t>(index < 0 ? index + height : index);
  }
  return nullptr;
}

ort::Status* GatherKernel::read_indices(const ort::KernelContext* context, std::vector<std::int64_t>* shape,
                                        std::vector<std::uint64_t>* rows) const {
  const ort::Value* value = nullptr;
  if (ort::Status* status = ort::GetInput::call(api_, context, kIndices, &value)) return status;
  if (value == nullptr) return fail(api_, kCodeMismatch, input_.where(), "the indices are missing");
  ort::TensorView view;
  ort::ElementType type = ort::kUndefined;
  if (ort::Status* status = ort::view_tensor(api_, value, &view, &type, shape)) return status;
  if (type == ort::kInt64)
    return check_indices(reinterpret_cast<const std::int64_t*>(view.data), view.elements, rows);
  if (type == ort::kInt32)
    return check_indices(reinterpret_cast<const std::int32_t*>(view.data), view.elements, rows);
  return fail(api_, kCodeMismatch, input_.where(), "the indices are neither int32 nor int64");
}

// The recoded form of the table once as many of its elements were decoded as half of it has, which may be never.
std::shared_ptr<const Recoded> GatherKernel::recoded(const ort::KernelContext* context, const SingleTensor& tensor) {
  if (std::shared_ptr<const Recoded> form = entry_->recoded.get()) return form;
  if (decoded_elements_.load(std::memory_order_relaxed) < input_.elements() / 2) return nullptr;
  return recoded_form(tensor, input_.type().dtype, api_, context, config_.threads,
                      {input_.constant().data, input_.constant().elements}, Recoded::kSmallBlock, entry_->recoded);
}

// Makes the rows at the positions `wanted` of `rows` to the same positions of `out`; sorts `wanted`.
void GatherKernel::restore_rows(ort::KernelContext* context, const SingleTensor& tensor, const Recoded& form,
                                const std::vector<std::uint64_t>& rows, std::vector<std::size_t>& wanted,
                                std::uint8_t* out) const {
  std::sort(wanted.begin(), wanted.end(),
            [&](std::size_t a, std::size_t b) { return rows[a] != rows[b] ? rows[a] < rows[b] : a < b; });
  const std::uint64_t columns = input_.elements() / height_;
  const std::size_t parts = wanted.size() < kLeastRowsOfPart ? 1 : config_.threads;
  std::vector<Recoded::Cursor> cursors;
  cursors.reserve(parts);
  for (std::size_t part = 0; part < parts; ++part)
    cursors.emplace_back(form, tensor.reconstruction(input_.type().dtype));
  auto task = [&](std::size_t part) {
    const Clock clock(stats().recoded_ns);
    const std::size_t end = wanted.size() * (part + 1) / parts;
    for (std::size_t i = wanted.size() * part / parts; i < end; ++i)
      cursors[part].restore(rows[wanted[i]] * columns, columns, out + wanted[i] * row_bytes_);
  };
  parallel_for(api_, context, parts, task);
  stats().row_misses += wanted.size();
}

// Decodes the rows at the positions `wanted` of `rows` to the same positions of `out`; sorts `wanted`.
ort::Status* GatherKernel::decode_rows(ort::KernelContext* context, const SingleTensor& tensor,
                                       const std::vector<std::uint64_t>& rows, std::vector<std::size_t>& wanted,
                                       std::uint8_t* out) {
  const std::uint64_t height = tensor.block_height();
  std::sort(wanted.begin(), wanted.end(),
            [&](std::size_t a, std::size_t b) { return rows[a] != rows[b] ? rows[a] < rows[b] : a < b; });
  std::vector<Group> groups;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (i == 0 || rows[wanted[i]] / height != rows[wanted[i - 1]] / height) groups.push_back({i, i});
    groups.back().end = i + 1;
  }
  const std::uint64_t block_rows = std::min(height, height_);
  std::atomic<bool> failed{false}, no_memory{false};
  auto task = [&](std::size_t part) {
    const Clock clock(stats().decode_ns);
    const std::size_t parts = std::min(config_.threads, groups.size());
    const Scratch block(static_cast<std::size_t>(block_rows) * row_bytes_);
    if (block.get() == nullptr) no_memory = true;
    for (std::size_t g = groups.size() * part / parts; g < groups.size() * (part + 1) / parts; ++g) {
      if (failed || no_memory) return;
      const std::uint64_t block_row = rows[wanted[groups[g].first]] / height;
      if (!tensor.decode_block_rows(block_row, 1, input_.type().dtype, block.get()).ok()) {
        failed = true;
        return;
      }
      for (std::size_t i = groups[g].first; i < groups[g].end; ++i)
        std::memcpy(out + wanted[i] * row_bytes_, block.get() + rows[wanted[i]] % height * row_bytes_, row_bytes_);
    }
  };
  parallel_for(api_, context, std::min(config_.threads, groups.size()), task);
  if (no_memory) return fail(api_, kCodeMemory, input_.where(), "not enough memory");
  Stats& counters = stats();
  counters.row_misses += wanted.size();
  counters.decoded_bytes += groups.size() * block_rows * row_bytes_;
  decoded_elements_.fetch_add(groups.size() * block_rows * (input_.elements() / height_), std::memory_order_relaxed);
  if (!failed) return nullptr;
  // Wrong entry points, or a damaged payload, which the whole table will show.
  const Scratch table(input_.bytes());
  if (table.get() == nullptr) return fail(api_, kCodeMemory, input_.where(), "not enough memory");
  if (const Status status = tensor.decode(input_.type().dtype, table.get()); !status.ok())
    return fail(api_, input_.where(), status);
  for (std::size_t i : wanted) std::memcpy(out + i * row_bytes_, table.get() + rows[i] * row_bytes_, row_bytes_);
  return nullptr;
}

ort::Status* GatherKernel::run(ort::KernelContext* context) {
  const ort::Value* value = nullptr;
  ort::TensorView payload;
  if (ort::Status* status = ort::GetInput::call(api_, context, kPayload, &value)) return status;
  if (value == nullptr) return fail(api_, kCodeMismatch, input_.where(), "the payload input is missing");
  if (ort::Status* status = ort::view_tensor(api_, value, &payload)) return status;
  std::shared_ptr<const SingleTensor> tensor;
  if (ort::Status* status = input_.open(payload, &tensor)) return status;

  std::vector<std::int64_t> shape;
  std::vector<std::uint64_t> rows;
  if (ort::Status* status = read_indices(context, &shape, &rows)) return status;
  shape.insert(shape.end(), input_.shape().begin() + 1, input_.shape().end());
  ort::Value* output = nullptr;
  void* memory = nullptr;
  if (ort::Status* status = ort::GetOutput::call(api_, context, 0, shape.data(), shape.size(), &output)) return status;
  if (ort::Status* status = ort::GetTensorMutableData::call(api_, output, &memory)) return status;
  if (rows.empty() || row_bytes_ == 0) return nullptr;
  auto* const out = static_cast<std::uint8_t*>(memory);

  std::vector<std::size_t> wanted;
  wanted.reserve(rows.size());
  const bool constant = entry_ != nullptr && input_.is_constant(payload);
  if (constant)
    entry_->rows->take(rows, out, wanted);
  else
    for (std::size_t i = 0; i < rows.size(); ++i) wanted.push_back(i);
  if (wanted.empty()) return nullptr;
  const auto form = constant && config_.recode ? recoded(context, *tensor) : nullptr;
  if (form != nullptr)
    restore_rows(context, *tensor, *form, rows, wanted, out);
  else if (ort::Status* status = decode_rows(context, *tensor, rows, wanted, out))
    return status;
  if (constant) entry_->rows->keep(rows, wanted, out);
  return nullptr;
}

ort::Status* GatherKernel::compute(ort::KernelContext* context) {
  ++stats().computes;
  ort::Status* status = run(context);
  if (status != nullptr) ++stats().failures;
  return status;
}

}  // namespace nnc
