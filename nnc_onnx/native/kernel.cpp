#include "kernel.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "allocator.h"
#include "checksum.h"
#include "message.h"
#include "shareable.h"
#include "stats.h"

namespace nnc {
namespace {

// Decoded elements per payload byte: nnc_codec.Limits.max_expansion. A model that claims more is refused before
// its output is allocated.
constexpr std::uint64_t kMaxExpansion = std::uint64_t{1} << 24;

std::string hex(std::uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", static_cast<unsigned>(value));
  return text;
}

template <class Int>
std::string shape_text(const Int* dims, std::size_t rank) {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

// False when a dimension is negative or the product is above `limit`.
bool count_elements(const std::vector<std::int64_t>& shape, std::uint64_t limit, std::uint64_t* out) {
  std::uint64_t product = 1;
  for (std::int64_t dim : shape)
    if (dim < 0) return false;
  for (std::int64_t dim : shape) {
    const auto size = static_cast<std::uint64_t>(dim);
    if (size != 0 && product > limit / size) return false;
    product *= size;
  }
  *out = product;
  return product <= limit;
}

}  // namespace

Kernel::Kernel(const ort::Api* api, const OpType& type, const SessionConfig& config)
    : api_(api), type_(type), config_(config) {
  ++stats().kernels;
}

Kernel::~Kernel() {
  if (entry_ != nullptr) Cache::instance().remove(*entry_, this);
  --stats().kernels;
}

ort::Status* Kernel::create(const ort::Api* api, const ort::KernelInfo* info, const OpType& type,
                            const SessionConfig& config, Kernel** out) {
  std::unique_ptr<Kernel> kernel(new Kernel(api, type, config));
  if (ort::Status* status = kernel->read(info)) return status;
  if (config.cache_bytes != 0 && kernel->constant_payload_.data != nullptr) {
    const CacheSource source{kernel->constant_payload_.data, kernel->constant_payload_.elements, kernel->crc32_,
                             type.element, static_cast<std::size_t>(kernel->elements_ * type.bytes)};
    kernel->entry_ = &Cache::instance().add(source, kernel.get(), config.cache_bytes);
    kernel->shareable_ = config.lend && is_shareable(kernel->tensor_);
  }
  *out = kernel.release();
  return nullptr;
}

ort::Status* Kernel::read(const ort::KernelInfo* info) {
  tensor_ = ort::output_name(api_, info);
  if (ort::Status* status = ort::read_attribute(api_, info, "shape", &shape_)) return status;
  std::int64_t crc = 0;
  if (ort::Status* status = ort::read_attribute(api_, info, "crc32", &crc)) return status;
  if (crc < 0 || crc > 0xFFFFFFFFLL)
    return fail(api_, kCodeMismatch, where({}), "attribute crc32 is outside 0..4294967295");
  crc32_ = static_cast<std::uint32_t>(crc);
  if (shape_.size() > Limits{}.max_dims || !count_elements(shape_, Limits{}.max_elements, &elements_))
    return fail(api_, kCodeMismatch, where({}),
                "attribute shape = " + shape_text(shape_.data(), shape_.size()) + " is not usable");
  int is_constant = 0;
  const ort::Value* value = nullptr;
  if (ort::succeeded(api_, ort::GetConstantInput::call(api_, info, 0, &is_constant, &value)) && is_constant != 0 &&
      value != nullptr)
    return ort::view_tensor(api_, value, &constant_payload_);
  return nullptr;
}

std::string Kernel::where(const ort::TensorView& payload) const {
  if (!tensor_.empty()) return "tensor '" + tensor_ + "'";
  return std::string(type_.name) + " with a payload of " + std::to_string(payload.elements) + " bytes";
}

bool Kernel::is_constant(const ort::TensorView& payload) const {
  return payload.data != nullptr && payload.data == constant_payload_.data;
}

// An initializer cannot change after it was checked once; anything else is checked at every use.
ort::Status* Kernel::check(const ort::TensorView& payload) {
  if (!is_constant(payload)) return check_bytes(payload);
  if (constant_checked_.load(std::memory_order_acquire)) return nullptr;
  ort::Status* status = check_bytes(payload);
  if (status == nullptr) constant_checked_.store(true, std::memory_order_release);
  return status;
}

ort::Status* Kernel::check_bytes(const ort::TensorView& payload) const {
  const std::uint32_t crc = crc32(payload.data, payload.elements);
  if (crc != crc32_)
    return fail(api_, kCodeMismatch, where(payload),
                "the CRC-32 of the payload is " + hex(crc) + ", the model says " + hex(crc32_) +
                    "; the model file is damaged");
  SingleInfo info;
  const Status status = inspect_single(payload.data, payload.elements, Limits{}, &info);
  if (!status.ok()) return fail(api_, where(payload), status);
  bool same = info.dims_count == shape_.size() && info.elements == elements_;
  for (std::size_t i = 0; same && i < shape_.size(); ++i) same = info.dims[i] == static_cast<std::uint64_t>(shape_[i]);
  if (!same)
    return fail(api_, kCodeMismatch, where(payload),
                "the payload holds a tensor of shape " + shape_text(info.dims, info.dims_count) +
                    ", attribute shape is " + shape_text(shape_.data(), shape_.size()));
  if (elements_ / kMaxExpansion > payload.elements)
    return fail(api_, "NNC-E105", where(payload),
                std::to_string(elements_) + " elements from " + std::to_string(payload.elements) + " bytes");
  return nullptr;
}

ort::Status* Kernel::decode(const ort::TensorView& payload, void* out) const {
  const auto start = std::chrono::steady_clock::now();
  const Status status = decode_single(payload.data, payload.elements, Limits{}, type_.dtype, out, elements_);
  const auto spent = std::chrono::steady_clock::now() - start;
  Stats& counters = stats();
  counters.decode_ns += static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  if (!status.ok()) return fail(api_, where(payload), status);
  ++counters.decodes;
  counters.decoded_bytes += elements_ * type_.bytes;
  counters.payload_bytes += payload.elements;
  return nullptr;
}

// One tensor to decode, perhaps of another operator, and what came of it.
struct Kernel::Job {
  Kernel* kernel;
  void* out;
  CacheEntry* claim;  // to be finished, or nullptr
  bool asked;         // by the operator that runs the jobs
  ort::Status* status = nullptr;
  bool done = false;

  void run() noexcept {
    bool decoded = false;
    done = true;
    try {
      status = kernel->check(kernel->constant_payload_);
      if (status == nullptr) status = kernel->decode(kernel->constant_payload_, out);
      decoded = status == nullptr;
    } catch (const std::exception&) {
      status = ort::CreateStatus::call(kernel->api_, ort::kFail, "NNC-E224: not enough memory");
    }
    // A tensor decoded ahead that fails is reported when it is asked for.
    if (status != nullptr && !asked) {
      ort::ReleaseStatus::call(kernel->api_, status);
      status = nullptr;
    }
    if (claim != nullptr) Cache::instance().finish(*claim, decoded, asked);
  }
};

ort::Status* Kernel::run_jobs(ort::KernelContext* context, std::vector<Job>& jobs) {
  if (jobs.size() == 1) {
    jobs.front().run();
    return jobs.front().status;
  }
  const auto task = [](void* data, std::size_t index) { (*static_cast<std::vector<Job>*>(data))[index].run(); };
  if (ort::Status* status = ort::ParallelFor::call(api_, context, task, jobs.size(), 0, &jobs)) {
    ort::ReleaseStatus::call(api_, status);
    for (Job& job : jobs)
      if (!job.done) job.run();
  }
  return jobs.front().status;
}

ort::Status* Kernel::output(ort::KernelContext* context, void** out) const {
  ort::Value* value = nullptr;
  if (ort::Status* status = ort::GetOutput::call(api_, context, 0, shape_.data(), shape_.size(), &value))
    return status;
  return ort::GetTensorMutableData::call(api_, value, out);
}

// Gives the pinned tensor of the cache to onnxruntime: lent if it may be, else copied. `out` is the output, or nullptr
// if it is not allocated yet.
ort::Status* Kernel::hand_out(ort::KernelContext* context, void* out) {
  ort::Status* status = nullptr;
  if (out == nullptr) {
    const Loan loan(*entry_);
    status = output(context, &out);
  }
  if (status == nullptr && out == entry_->block) return nullptr;
  if (status == nullptr) std::memcpy(out, entry_->block, entry_->source.bytes);
  Cache::instance().unpin(*entry_);
  return status;
}

ort::Status* Kernel::compute_cached(ort::KernelContext* context) {
  Cache& cache = Cache::instance();
  std::vector<Job> jobs;
  jobs.reserve(config_.ahead + 1);
  void* out = nullptr;
  // A loan decides itself where the output lies, so only an output to copy to is allocated up front.
  if (!shareable_)
    if (ort::Status* status = output(context, &out)) return status;
  const Cache::Use use = cache.use(*entry_, config_.ahead);
  if (use.ready) return hand_out(context, out);
  ort::Status* status = nullptr;
  if (!use.claimed && out == nullptr) status = output(context, &out);
  if (status == nullptr)
    jobs.push_back({this, use.claimed ? entry_->block : out, use.claimed ? entry_ : nullptr, true});
  for (CacheEntry* next : use.ahead) jobs.push_back({static_cast<Kernel*>(next->owner), next->block, next, false});
  ort::Status* decoded = jobs.empty() ? nullptr : run_jobs(context, jobs);
  if (status != nullptr) return status;
  if (decoded != nullptr) return decoded;
  return use.claimed ? hand_out(context, out) : nullptr;
}

ort::Status* Kernel::compute(ort::KernelContext* context) {
  ++stats().computes;
  const ort::Value* value = nullptr;
  ort::TensorView payload;
  if (ort::Status* status = ort::GetInput::call(api_, context, 0, &value)) return status;
  if (value == nullptr) return fail(api_, kCodeMismatch, where({}), "the payload input is missing");
  if (ort::Status* status = ort::view_tensor(api_, value, &payload)) return status;

  // Checked before the output is allocated: its size is what the model claims.
  ort::Status* status = check(payload);
  if (status == nullptr && entry_ != nullptr && is_constant(payload)) {
    status = compute_cached(context);
  } else if (status == nullptr) {
    void* out = nullptr;
    status = output(context, &out);
    if (status == nullptr) status = decode(payload, out);
  }
  if (status != nullptr) ++stats().failures;
  return status;
}

}  // namespace nnc
