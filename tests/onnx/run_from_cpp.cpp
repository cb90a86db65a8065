// Runs a packed model through onnxruntime's C interface, without Python.
//
// Usage: run_from_cpp LIBONNXRUNTIME OPS_LIBRARY MODEL ROWS COLUMNS OUTPUT OUTPUT_FILE CACHE_BYTES THREADS RUNS
// The model has one float input "x0" [ROWS, COLUMNS], fed with 0, 1/64, 2/64 ... modulo 1. Writes the bytes of
// OUTPUT; all runs of all threads must agree. Prints the library's counters.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "ort_abi.h"

namespace {

using namespace nnc::ort;

struct Session;
struct RunOptions;

using CreateSession = Slot<7, Status*(Env*, const char* path, const SessionOptions*, Session** out)>;
using Run = Slot<9, Status*(Session*, const RunOptions*, const char* const* input_names, const Value* const* inputs,
                            std::size_t input_count, const char* const* output_names, std::size_t output_count,
                            Value** outputs)>;
using CreateSessionOptions = Slot<10, Status*(SessionOptions** out)>;
using DisableMemPattern = Slot<17, Status*(SessionOptions*)>;
using SetIntraOpNumThreads = Slot<24, Status*(SessionOptions*, int)>;
using RegisterCustomOpsLibrary = Slot<29, Status*(SessionOptions*, const char* path, void** handle)>;
using ReleaseSession = Slot<95, void(Session*)>;
using ReleaseSessionOptions = Slot<100, void(SessionOptions*)>;
using AddSessionConfigEntry = Slot<130, Status*(SessionOptions*, const char* key, const char* value)>;

const Api* api = nullptr;

void check(Status* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", GetErrorMessage::call(api, status));
  std::exit(1);
}

void* open_library(const char* path) {
  void* library = dlopen(path, RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(1);
  }
  return library;
}

std::string run_once(Session* session, const MemoryInfo* memory, std::int64_t rows, std::int64_t columns,
                     const char* output_name) {
  std::vector<float> input(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 64) / 64;
  const std::int64_t dims[2] = {rows, columns};
  Value* x = nullptr;
  check(CreateTensorWithData::call(api, memory, input.data(), input.size() * 4, dims, 2, kFloat, &x));
  const char* input_names[] = {"x0"};
  const char* output_names[] = {output_name};
  const Value* inputs[] = {x};
  Value* output = nullptr;
  check(Run::call(api, session, nullptr, input_names, inputs, 1, output_names, 1, &output));
  TensorTypeAndShapeInfo* info = nullptr;
  void* data = nullptr;
  std::size_t count = 0;
  check(GetTypeAndShape::call(api, output, &info));
  check(GetElementCount::call(api, info, &count));
  check(GetTensorMutableData::call(api, output, &data));
  std::string bytes(static_cast<const char*>(data), count * 4);
  ReleaseTypeAndShape::call(api, info);
  ReleaseValue::call(api, output);
  ReleaseValue::call(api, x);
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 11) return 2;
  const std::int64_t rows = std::atoll(argv[4]), columns = std::atoll(argv[5]);
  const char* output_name = argv[6];
  const int threads = std::atoi(argv[9]), runs = std::atoi(argv[10]);

  auto* base = reinterpret_cast<const ApiBase* (*)()>(dlsym(open_library(argv[1]), "OrtGetApiBase"))();
  api = base->get_api(17);
  Env* env = nullptr;
  check(CreateEnv::call(api, kLogWarning, "run_from_cpp", &env));
  SessionOptions* options = nullptr;
  check(CreateSessionOptions::call(api, &options));
  check(SetIntraOpNumThreads::call(api, options, 2));
  check(DisableMemPattern::call(api, options));
  check(AddSessionConfigEntry::call(api, options, "onnx_nnc.cache_bytes", argv[8]));
  check(AddSessionConfigEntry::call(api, options, "onnx_nnc.ahead", "1"));
  void* handle = nullptr;
  check(RegisterCustomOpsLibrary::call(api, options, argv[2], &handle));
  Session* session = nullptr;
  check(CreateSession::call(api, env, argv[3], options, &session));
  MemoryInfo* memory = nullptr;
  check(CreateCpuMemoryInfo::call(api, kDeviceAllocator, kMemTypeDefault, &memory));

  const std::string expected = run_once(session, memory, rows, columns, output_name);
  bool same = true;
  std::vector<std::thread> workers;
  std::vector<char> agrees(static_cast<std::size_t>(threads), 1);
  for (int number = 0; number < threads; ++number)
    workers.emplace_back([&, number] {
      for (int run = 0; run < runs; ++run)
        if (run_once(session, memory, rows, columns, output_name) != expected) agrees[number] = 0;
    });
  for (std::thread& worker : workers) worker.join();
  for (char agreed : agrees) same = same && agreed != 0;

  auto* name = reinterpret_cast<const char* (*)(std::size_t)>(dlsym(handle, "onnx_nnc_stat_name"));
  auto* value = reinterpret_cast<std::uint64_t (*)(std::size_t)>(dlsym(handle, "onnx_nnc_stat_value"));
  for (std::size_t i = 0; name(i) != nullptr; ++i)
    std::printf("%s %llu\n", name(i), static_cast<unsigned long long>(value(i)));

  ReleaseMemoryInfo::call(api, memory);
  ReleaseSession::call(api, session);
  ReleaseSessionOptions::call(api, options);
  ReleaseEnv::call(api, env);
  std::ofstream(argv[7], std::ios::binary) << expected;
  return same ? 0 : 1;
}
