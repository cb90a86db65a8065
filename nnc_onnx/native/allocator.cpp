#include "allocator.h"

#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "blocks.h"
#include "cache.h"
#include "ort_api.h"
#include "stats.h"

namespace nnc {
namespace {

thread_local CacheEntry* on_offer = nullptr;

// What onnxruntime sees is the base; it must come first and be standard layout.
struct TensorAllocator {
  ort::Allocator base;
  ort::MemoryInfo* memory;
};

void* NNC_ORT_CALL allocate(ort::Allocator*, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (CacheEntry* entry = on_offer; entry != nullptr && bytes >= entry->source.bytes && bytes <= entry->capacity) {
    on_offer = nullptr;
    ++stats().cache_loans;
    return entry->block;
  }
  std::uint8_t* block = take_pooled_block(bytes);
  // onnxruntime writes to what it gets without a look. Its own allocators report failure by this exception, which it
  // turns into a status, and so must this one; nothing of ours lies between.
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void NNC_ORT_CALL release(ort::Allocator*, void* memory) {
  if (memory == nullptr) return;
  auto* block = static_cast<std::uint8_t*>(memory);
  if (CacheEntry* entry = block_lender(block))
    Cache::instance().unpin(*entry);
  else
    give_pooled_block(block);
}

const ort::MemoryInfo* NNC_ORT_CALL info(const ort::Allocator* self) {
  return reinterpret_cast<const TensorAllocator*>(self)->memory;
}

// The registered allocator, or nullptr. The environment keeps the pointer for as long as it lives.
TensorAllocator* register_with_environment(const ort::Api* api) {
  ort::MemoryInfo* memory = nullptr;
  if (!ort::succeeded(api, ort::CreateCpuMemoryInfo::call(api, ort::kDeviceAllocator, ort::kMemTypeDefault, &memory)))
    return nullptr;
  auto allocator = std::make_unique<TensorAllocator>();
  allocator->base = {ort::kAllocatorVersion, allocate, release, info, allocate};
  allocator->memory = memory;
  ort::Env* env = nullptr;
  bool taken = ort::succeeded(api, ort::CreateEnv::call(api, ort::kLogWarning, "onnx_nnc", &env));
  if (taken) {
    taken = ort::succeeded(api, ort::RegisterAllocator::call(api, env, &allocator->base));
    ort::ReleaseEnv::call(api, env);
  }
  if (taken) return allocator.release();
  ort::ReleaseMemoryInfo::call(api, memory);
  return nullptr;
}

}  // namespace

bool register_allocator(const ort::Api* api) {
  static std::mutex mutex;
  static auto* known = new std::map<const ort::Api*, TensorAllocator*>;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known->find(api);
  if (found != known->end()) return found->second != nullptr;
  return ((*known)[api] = register_with_environment(api)) != nullptr;
}

Loan::Loan(CacheEntry& entry) { on_offer = &entry; }

Loan::~Loan() { on_offer = nullptr; }

}  // namespace nnc
