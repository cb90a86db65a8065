#include "kernel.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "allocator.h"
#include "blocks.h"
#include "levels.h"
#include "message.h"
#include "parallel.h"
#include "shareable.h"
#include "stats.h"

namespace nnc {
namespace {

// Values made from levels in one piece.
constexpr std::uint64_t kRestoredAtOnce = std::uint64_t{1} << 18;

}  // namespace

Kernel::Kernel(const ort::Api* api, const OpType& type, const SessionConfig& config)
    : api_(api), config_(config), input_(api, type) {
  ++stats().kernels;
}

Kernel::~Kernel() {
  if (entry_ != nullptr) Cache::instance().remove(*entry_, this);
  if (--stats().kernels == 0) release_pooled_blocks();
}

ort::Status* Kernel::create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                            const SessionConfig& config, Kernel** out) {
  std::unique_ptr<Kernel> kernel(new Kernel(api, type, config));
  const std::string name = ort::output_name(api, info);
  CodedInput& input = kernel->input_;
  if (ort::Status* status = input.read(info, name)) return status;
  const bool keeps = config.cache_bytes != 0;
  if ((keeps || config.recode) && input.constant().data != nullptr) {
    kernel->entry_ = &Cache::instance().add(
        input.source(), {kernel.get(), input.constant().data, config.cache_bytes, false, config.levels, keeps});
    kernel->shareable_ = config.lend && is_shareable(name);
  }
  *out = kernel.release();
  return nullptr;
}

// One tensor to decode, perhaps of another operator, and what came of it.
struct Kernel::Job {
  Kernel* kernel;
  Target target;
  CacheEntry* claim;  // to be finished, or nullptr
  bool asked;         // by the operator that runs the jobs
  ort::Status* status = nullptr;
  bool too_wide = false;

  // `context` if the job may use several threads.
  void run(const ort::KernelContext* context) noexcept {
    bool decoded = false;
    try {
      status = attempt(context);
      decoded = status == nullptr && !too_wide;
    } catch (const std::exception&) {
      status = ort::CreateStatus::call(kernel->api_, ort::kFail, "NNC-E224: not enough memory");
    }
    // A tensor decoded ahead that fails is reported when it is asked for.
    if (status != nullptr && !asked) {
      ort::ReleaseStatus::call(kernel->api_, status);
      status = nullptr;
    }
    if (claim == nullptr) return;
    if (too_wide) Cache::instance().widen(*claim);
    Cache::instance().finish(*claim, decoded, asked);
  }

  ort::Status* attempt(const ort::KernelContext* context) {
    CodedInput& input = kernel->input_;
    std::shared_ptr<const SingleTensor> tensor;
    if (ort::Status* failed = input.open(input.constant(), &tensor)) return failed;
    if (target.level_bytes != 0 && !tensor->has_levels()) {
      too_wide = true;
      return nullptr;
    }
    RecodedSlot* slot = kernel->slot();
    if (claim != nullptr && slot != nullptr && !slot->decoded_before()) slot = nullptr;
    const Outcome outcome =
        decode_tensor(*tensor, input.type().dtype, target, kernel->api_, context, kernel->config_.threads,
                      {input.constant().data, input.constant().elements}, slot);
    too_wide = outcome.too_wide;
    // The cache has the tensor now, and what it drops and decodes again is recoded then.
    if (outcome.ok() && claim != nullptr && kernel->config_.recode)
      let_go(input.constant().data, input.constant().elements);
    return outcome.ok() || too_wide ? nullptr : fail(kernel->api_, input.where(), outcome.status);
  }
};

// Where the recoded form of the constant payload is, or nullptr.
RecodedSlot* Kernel::slot() const { return entry_ != nullptr && config_.recode ? &entry_->recoded : nullptr; }

ort::Status* Kernel::output(ort::KernelContext* context, void** out) const {
  const std::vector<std::int64_t>& shape = input_.shape();
  ort::Value* value = nullptr;
  if (ort::Status* status = ort::GetOutput::call(api_, context, 0, shape.data(), shape.size(), &value)) return status;
  return ort::GetTensorMutableData::call(api_, value, out);
}

// Makes the values of the pinned entry, which holds levels.
ort::Status* Kernel::restore(ort::KernelContext* context, const SingleTensor& tensor, void* out) const {
  const Reconstruction how = tensor.reconstruction(input_.type().dtype);
  const std::uint64_t elements = input_.elements();
  const std::uint64_t parts = config_.threads > 1 ? (elements + kRestoredAtOnce - 1) / kRestoredAtOnce : 1;
  auto task = [&](std::size_t part) {
    const std::uint64_t first = elements * part / parts, end = elements * (part + 1) / parts;
    restore_levels(how, elements, entry_->level_bytes, entry_->block, first, end - first, out);
  };
  parallel_for(api_, context, static_cast<std::size_t>(parts), task);
  ++stats().cache_restores;
  return nullptr;
}

// Gives the pinned tensor of the cache to onnxruntime: lent if it may be, else copied. `out` is the output, or nullptr
// if it is not allocated yet.
ort::Status* Kernel::hand_out(ort::KernelContext* context, const SingleTensor& tensor, void* out) {
  ort::Status* status = nullptr;
  const bool levels = entry_->level_bytes != 0;
  if (out == nullptr && levels) {
    status = output(context, &out);
  } else if (out == nullptr) {
    const Loan loan(*entry_);
    status = output(context, &out);
  }
  if (status == nullptr && out == entry_->block) return nullptr;
  if (status == nullptr && levels)
    status = restore(context, tensor, out);
  else if (status == nullptr)
    std::memcpy(out, entry_->block, entry_->source.bytes);
  Cache::instance().unpin(*entry_);
  return status;
}

ort::Status* Kernel::compute_cached(ort::KernelContext* context, const SingleTensor& tensor) {
  Cache& cache = Cache::instance();
  std::vector<Job> jobs;
  jobs.reserve(config_.ahead + 1);
  void* out = nullptr;
  // A loan decides itself where the output lies, so only an output to copy to is allocated up front.
  if (!shareable_)
    if (ort::Status* status = output(context, &out)) return status;
  const Cache::Use use = cache.use(*entry_, config_.ahead);
  if (use.ready) return hand_out(context, tensor, out);
  ort::Status* status = nullptr;
  if (!use.claimed && out == nullptr) status = output(context, &out);
  if (status == nullptr && use.claimed)
    jobs.push_back({this, {entry_->block, entry_->level_bytes}, entry_, true});
  else if (status == nullptr)
    jobs.push_back({this, {out, 0}, nullptr, true});
  for (CacheEntry* next : use.ahead)
    jobs.push_back({static_cast<Kernel*>(next->owner), {next->block, next->level_bytes}, next, false});
  const ort::KernelContext* const alone = jobs.size() == 1 ? context : nullptr;
  auto task = [&](std::size_t index) { jobs[index].run(alone); };
  parallel_for(api_, context, jobs.size(), task);
  if (status != nullptr) return status;
  if (jobs.front().status != nullptr) return jobs.front().status;
  if (!use.claimed) return nullptr;
  if (!jobs.front().too_wide) return hand_out(context, tensor, out);
  if (out == nullptr) status = output(context, &out);
  return status != nullptr ? status : decode(context, tensor, input_.constant(), slot(), out);
}

ort::Status* Kernel::decode(ort::KernelContext* context, const SingleTensor& tensor, const ort::TensorView& payload,
                            RecodedSlot* recoded, void* out) {
  const Outcome outcome = decode_tensor(tensor, input_.type().dtype, {out, 0}, api_, context, config_.threads,
                                        {payload.data, payload.elements}, recoded);
  return outcome.ok() ? nullptr : fail(api_, input_.where(), outcome.status);
}

ort::Status* Kernel::compute(ort::KernelContext* context) {
  ++stats().computes;
  const ort::Value* value = nullptr;
  ort::TensorView payload;
  if (ort::Status* status = ort::GetInput::call(api_, context, 0, &value)) return status;
  if (value == nullptr) return fail(api_, kCodeMismatch, input_.where(), "the payload input is missing");
  if (ort::Status* status = ort::view_tensor(api_, value, &payload)) return status;

  std::shared_ptr<const SingleTensor> tensor;
  ort::Status* status = input_.open(payload, &tensor);
  const bool constant = status == nullptr && input_.is_constant(payload);
  if (constant && config_.cache_bytes != 0) {
    status = compute_cached(context, *tensor);
  } else if (status == nullptr) {
    void* out = nullptr;
    status = output(context, &out);
    if (status == nullptr) status = decode(context, *tensor, payload, constant ? slot() : nullptr, out);
  }
  if (status != nullptr) ++stats().failures;
  return status;
}

}  // namespace nnc
