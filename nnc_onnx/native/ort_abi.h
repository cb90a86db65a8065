// The part of onnxruntime's C ABI that the run-time library uses, declared by hand: no package ships the header.
//
// onnxruntime hands out a table of function pointers whose slot numbers never change once released; a slot is named
// here by its number and signature. Every slot below exists since 1.17, the oldest release that is served.
// Wrong numbers or signatures are caught by `self_test` (ort_api.cpp) and by the release matrix of the tests.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define NNC_ORT_CALL __stdcall
#define NNC_EXPORT extern "C" __declspec(dllexport)
#else
#define NNC_ORT_CALL
#define NNC_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace nnc::ort {

// Opaque objects of onnxruntime.
struct Status;
struct Value;
struct Env;
struct MemoryInfo;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct TensorTypeAndShapeInfo;
struct OpAttr;

// OrtErrorCode.
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };

// ONNXTensorElementDataType.
enum ElementType : int {
  kUndefined = 0, kFloat = 1, kUInt8 = 2, kInt8 = 3, kUInt16 = 4, kInt16 = 5, kInt32 = 6, kInt64 = 7,
  kFloat16 = 10, kDouble = 11, kUInt32 = 12, kUInt64 = 13, kBFloat16 = 16
};

// OrtAllocatorType, OrtMemType and OrtOpAttrType values in use.
constexpr int kDeviceAllocator = 0;
constexpr int kMemTypeDefault = 0;
constexpr int kOpAttrInt = 1;
constexpr int kLogWarning = 2;  // OrtLoggingLevel

// OrtCustomOpInputOutputCharacteristic.
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };

// OrtApi: only its slots are known.
struct Api {
  void(NNC_ORT_CALL* slots[1])();
};

template <std::size_t Number, class Function>
struct Slot;

template <std::size_t Number, class Result, class... Args>
struct Slot<Number, Result(Args...)> {
  using Pointer = Result(NNC_ORT_CALL*)(Args...);
  static Result call(const Api* api, Args... args) {
    auto const* table = reinterpret_cast<Pointer const*>(api);
    return table[Number](args...);
  }
};

using CreateStatus = Slot<0, Status*(int code, const char* message)>;
using GetErrorMessage = Slot<2, const char*(const Status*)>;
using CreateEnv = Slot<3, Status*(int log_level, const char* log_id, Env** out)>;
using CreateCustomOpDomain = Slot<26, Status*(const char* domain, CustomOpDomain** out)>;
using AddOp = Slot<27, Status*(CustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain = Slot<28, Status*(SessionOptions*, CustomOpDomain*)>;
using CreateTensorWithData = Slot<49, Status*(const MemoryInfo*, void* data, std::size_t bytes,
                                              const std::int64_t* dims, std::size_t rank, int type, Value** out)>;
using GetTensorMutableData = Slot<51, Status*(const Value*, void** out)>;
using GetTensorElementType = Slot<60, Status*(const TensorTypeAndShapeInfo*, int* out)>;
using GetDimensionsCount = Slot<61, Status*(const TensorTypeAndShapeInfo*, std::size_t* out)>;
using GetDimensions = Slot<62, Status*(const TensorTypeAndShapeInfo*, std::int64_t* out, std::size_t rank)>;
using GetElementCount = Slot<64, Status*(const TensorTypeAndShapeInfo*, std::size_t* out)>;
using GetTypeAndShape = Slot<65, Status*(const Value*, TensorTypeAndShapeInfo** out)>;
using CreateCpuMemoryInfo = Slot<69, Status*(int allocator_type, int mem_type, MemoryInfo** out)>;
using GetAttributeInt = Slot<86, Status*(const KernelInfo*, const char* name, std::int64_t* out)>;
using GetOutputCount = Slot<89, Status*(const KernelContext*, std::size_t* out)>;
using GetInput = Slot<90, Status*(const KernelContext*, std::size_t index, const Value** out)>;
using GetOutput = Slot<91, Status*(KernelContext*, std::size_t index, const std::int64_t* dims, std::size_t rank,
                                   Value** out)>;
using ReleaseEnv = Slot<92, void(Env*)>;
using ReleaseStatus = Slot<93, void(Status*)>;
using ReleaseMemoryInfo = Slot<94, void(MemoryInfo*)>;
using ReleaseValue = Slot<96, void(Value*)>;
using ReleaseTypeAndShape = Slot<99, void(TensorTypeAndShapeInfo*)>;
using GetAttributeInts = Slot<163, Status*(const KernelInfo*, const char* name, std::int64_t* out, std::size_t* size)>;
using RegisterAllocator = Slot<176, Status*(Env*, struct Allocator*)>;
using CreateOpAttr = Slot<211, Status*(const char* name, const void* data, int length, int type, OpAttr** out)>;
using ReleaseOpAttr = Slot<212, void(OpAttr*)>;
using GetInputName = Slot<232, Status*(const KernelInfo*, std::size_t index, char* out, std::size_t* size)>;
using GetOutputName = Slot<233, Status*(const KernelInfo*, std::size_t index, char* out, std::size_t* size)>;
using HasSessionConfig = Slot<237, Status*(const SessionOptions*, const char* key, int* out)>;
using GetSessionConfig = Slot<238, Status*(const SessionOptions*, const char* key, char* out, std::size_t* size)>;
using GetConstantInput = Slot<249, Status*(const KernelInfo*, std::size_t index, int* is_constant, const Value** out)>;
using ParallelFor = Slot<274, Status*(const KernelContext*, void(NNC_ORT_CALL* task)(void* data, std::size_t index),
                                      std::size_t tasks, std::size_t batches, void* data)>;

// OrtApiBase.
struct ApiBase {
  const Api*(NNC_ORT_CALL* get_api)(std::uint32_t version);
  const char*(NNC_ORT_CALL* get_version_string)();
};

// OrtAllocator as of version 18.
constexpr std::uint32_t kAllocatorVersion = 18;
struct Allocator {
  std::uint32_t version;
  void*(NNC_ORT_CALL* allocate)(Allocator*, std::size_t bytes);
  void(NNC_ORT_CALL* release)(Allocator*, void* memory);
  const MemoryInfo*(NNC_ORT_CALL* info)(const Allocator*);
  void*(NNC_ORT_CALL* reserve)(Allocator*, std::size_t bytes);
};

// OrtCustomOp as of version 18. Callbacks past the stated version are not read by an older runtime.
struct CustomOp {
  std::uint32_t version;
  void*(NNC_ORT_CALL* create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char*(NNC_ORT_CALL* get_name)(const CustomOp*);
  const char*(NNC_ORT_CALL* get_execution_provider)(const CustomOp*);
  ElementType(NNC_ORT_CALL* get_input_type)(const CustomOp*, std::size_t index);
  std::size_t(NNC_ORT_CALL* get_input_count)(const CustomOp*);
  ElementType(NNC_ORT_CALL* get_output_type)(const CustomOp*, std::size_t index);
  std::size_t(NNC_ORT_CALL* get_output_count)(const CustomOp*);
  void(NNC_ORT_CALL* kernel_compute)(void* kernel, KernelContext*);
  void(NNC_ORT_CALL* kernel_destroy)(void* kernel);
  Characteristic(NNC_ORT_CALL* get_input_characteristic)(const CustomOp*, std::size_t index);
  Characteristic(NNC_ORT_CALL* get_output_characteristic)(const CustomOp*, std::size_t index);
  int(NNC_ORT_CALL* get_input_memory_type)(const CustomOp*, std::size_t index);
  int(NNC_ORT_CALL* get_variadic_input_min_arity)(const CustomOp*);
  int(NNC_ORT_CALL* get_variadic_input_homogeneity)(const CustomOp*);
  int(NNC_ORT_CALL* get_variadic_output_min_arity)(const CustomOp*);
  int(NNC_ORT_CALL* get_variadic_output_homogeneity)(const CustomOp*);
  Status*(NNC_ORT_CALL* create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status*(NNC_ORT_CALL* kernel_compute_v2)(void* kernel, KernelContext*);
  Status*(NNC_ORT_CALL* infer_output_shape)(const CustomOp*, void* context);
  int(NNC_ORT_CALL* get_start_version)(const CustomOp*);
  int(NNC_ORT_CALL* get_end_version)(const CustomOp*);
  std::size_t(NNC_ORT_CALL* get_may_inplace)(int** inputs, int** outputs);
  void(NNC_ORT_CALL* release_may_inplace)(int* inputs, int* outputs);
  std::size_t(NNC_ORT_CALL* get_alias_map)(int** inputs, int** outputs);
  void(NNC_ORT_CALL* release_alias_map)(int* inputs, int* outputs);
};

static_assert(sizeof(void (*)()) == sizeof(void*), "slots are plain pointers");
static_assert(sizeof(CustomOp) == 26 * sizeof(void*), "OrtCustomOp: a version and 25 callbacks");
static_assert(sizeof(Allocator) == 5 * sizeof(void*), "OrtAllocator: a version and 4 callbacks");
static_assert(sizeof(ApiBase) == 2 * sizeof(void*), "OrtApiBase: two functions");
static_assert(sizeof(ElementType) == sizeof(int) && sizeof(Characteristic) == sizeof(int), "C enums are ints");

}  // namespace nnc::ort
