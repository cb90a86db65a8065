// RegisterCustomOps: what onnxruntime calls when a user registers this library.
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "allocator.h"
#include "gather_op.h"
#include "group_op.h"
#include "guarded.h"
#include "kernel.h"
#include "message.h"
#include "op_callbacks.h"
#include "op_types.h"
#include "ort_abi.h"
#include "ort_api.h"
#include "session_config.h"

namespace nnc {
namespace {

constexpr int kOldestMinor = 17;  // older releases call other callbacks of OrtCustomOp
constexpr int kNewestOpVersion = 18;
constexpr int kOldestLendingMinor = 23;  // older releases do not let a library reach the environment

// What onnxruntime sees is the base; it must come first and be standard layout.
struct DecodeOp {
  ort::CustomOp base;
  const OpType* type;
  const SessionConfig* config;
};

ort::Status* create(const ort::Api* api, const ort::KernelInfo* info, const DecodeOp& op, Kernel** out) {
  return Kernel::create(api, info, *op.type, *op.config, out);
}

DecodeOp make_op(const OpType& type, const SessionConfig& config, std::uint32_t version) {
  DecodeOp op{};
  op.type = &type;
  op.config = &config;
  ort::CustomOp& base = op.base;
  set_callbacks<DecodeOp, Kernel, create>(&base, version);
  base.get_name = [](const ort::CustomOp* op) { return op_of<DecodeOp>(op).type->name; };
  base.get_input_count = [](const ort::CustomOp*) -> std::size_t { return 2; };
  // Input 1, `after`, is a tensor of any type whose value is never read: it orders the execution.
  base.get_input_type = [](const ort::CustomOp*, std::size_t index) {
    return index == 0 ? ort::kUInt8 : ort::kUndefined;
  };
  base.get_input_characteristic = [](const ort::CustomOp*, std::size_t index) {
    return index == 0 ? ort::kRequired : ort::kOptional;
  };
  return op;
}

// onnxruntime keeps plain pointers to the domain and its operators for as long as any session lives, so they are made
// once per process and configuration (and per copy of onnxruntime in the process) and stay.
struct Registration {
  const ort::Api* api = nullptr;
  SessionConfig config;
  ort::CustomOpDomain* domain = nullptr;
  std::vector<DecodeOp> ops;
  std::vector<GroupOp> group_ops;
  std::vector<GatherOp> gather_ops;
};

struct Registrations {
  std::mutex mutex;
  std::list<Registration> entries;
};

Registrations& registrations() {
  static auto* instance = new Registrations;  // never destroyed: sessions may outlive static destructors
  return *instance;
}

ort::Status* make_registration(const ort::Api* api, const SessionConfig& config, std::uint32_t version,
                               Registration* out) {
  if (const std::string failed = ort::self_test(api); !failed.empty())
    return fail(api, kCodeRegistration, "", "this onnxruntime does not behave as expected (" + failed + ")");
  out->api = api;
  out->config = config;
  for (const OpType& type : kOpTypes) {
    out->ops.push_back(make_op(type, out->config, version));
    out->group_ops.push_back(make_group_op(type, version));
    out->gather_ops.push_back(make_gather_op(type, out->config, version));
  }
  if (ort::Status* status = ort::CreateCustomOpDomain::call(api, kDomain, &out->domain)) return status;
  for (const DecodeOp& op : out->ops)
    if (ort::Status* status = ort::AddOp::call(api, out->domain, &op.base)) return status;
  for (const GroupOp& op : out->group_ops)
    if (ort::Status* status = ort::AddOp::call(api, out->domain, &op.base)) return status;
  for (const GatherOp& op : out->gather_ops)
    if (ort::Status* status = ort::AddOp::call(api, out->domain, &op.base)) return status;
  return nullptr;
}

ort::Status* register_domain(const ort::Api* api, std::uint32_t version, int minor, ort::SessionOptions* options) {
  SessionConfig config = read_session_config(api, options);
  if (config.lend) config.lend = minor >= kOldestLendingMinor && config.cache_bytes != 0 && register_allocator(api);
  Registrations& shared = registrations();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (const Registration& known : shared.entries)
    if (known.api == api && known.config == config)
      return ort::AddCustomOpDomain::call(api, options, known.domain);
  std::list<Registration> made(1);
  if (ort::Status* status = make_registration(api, config, version, &made.front())) return status;
  shared.entries.splice(shared.entries.end(), made);
  return ort::AddCustomOpDomain::call(api, options, shared.entries.back().domain);
}

}  // namespace
}  // namespace nnc

NNC_EXPORT nnc::ort::Status* NNC_ORT_CALL RegisterCustomOps(nnc::ort::SessionOptions* options,
                                                            const nnc::ort::ApiBase* base) {
  using namespace nnc;
  const char* version_string = base->get_version_string();
  const int minor = ort::minor_version(version_string);
  if (minor < kOldestMinor) {
    // Version 1 of the table exists in every release and holds CreateStatus.
    const ort::Api* oldest = base->get_api(1);
    if (oldest == nullptr) return nullptr;
    return guarded(oldest, [&] {
      return fail(oldest, kCodeTooOld, "",
                  std::string("onnxruntime ") + version_string + " is too old; 1.17 or newer is needed");
    });
  }
  const ort::Api* api = base->get_api(kOldestMinor);
  if (api == nullptr) {
    const ort::Api* oldest = base->get_api(1);
    if (oldest == nullptr) return nullptr;
    return guarded(oldest, [&] {
      return fail(oldest, kCodeRegistration, "",
                  std::string("onnxruntime ") + version_string + " does not offer version 17 of its interface");
    });
  }
  const auto version = static_cast<std::uint32_t>(minor < kNewestOpVersion ? minor : kNewestOpVersion);
  return guarded(api, [&] { return register_domain(api, version, minor, options); });
}
