// Decoding of one-unit bitstreams from arbitrary bytes, by the portable kernels and by the others. With libFuzzer (clang) the entry point is all that is needed;
// with other compilers a main() replays files, or mutates them from a fixed seed:
//   fuzz_single FILE...                 decode each file
//   fuzz_single --mutate N FILE...      and N mutations of each
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"
#include "single.h"

namespace {

constexpr std::uint64_t kMaxElements = 1 << 18;
constexpr nnc::DType kTypes[] = {nnc::DType::float32, nnc::DType::float16, nnc::DType::bfloat16, nnc::DType::float64,
                                 nnc::DType::int32,   nnc::DType::int8,    nnc::DType::uint16,   nnc::DType::int64};
constexpr std::size_t kSizes[] = {4, 2, 2, 8, 4, 1, 2, 8};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nnc::Limits limits;
  limits.max_elements = kMaxElements;
  nnc::SingleInfo info;
  const nnc::Status parsed = nnc::inspect_single(data, size, limits, &info);
  if (!parsed.ok()) info.elements = 7;  // decoding must refuse as well
  if (info.elements > kMaxElements) __builtin_trap();
  for (std::size_t i = 0; i < sizeof kTypes / sizeof *kTypes; ++i) {
    std::vector<std::uint8_t> out(info.elements * kSizes[i]);  // exact, so that the sanitizer sees one byte too many
    const nnc::Status status = nnc::decode_single(data, size, limits, kTypes[i], out.data(), info.elements);
    if (status.ok() && !parsed.ok()) __builtin_trap();
    if (status.what == nullptr) __builtin_trap();
    std::vector<std::uint8_t> other(out.size());
    nnc::use_portable_kernels(true);
    const nnc::Status portable = nnc::decode_single(data, size, limits, kTypes[i], other.data(), info.elements);
    nnc::use_portable_kernels(false);
    if (portable.code != status.code || (status.ok() && out != other)) __builtin_trap();
  }
  return 0;
}

#ifndef NNC_LIBFUZZER
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

namespace {

using Input = std::vector<std::uint8_t>;

void mutate(Input& input, std::mt19937& random) {
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % (n ? n : 1)); };
  for (std::size_t changes = 1 + below(4); changes && !input.empty(); --changes) {
    const std::size_t at = below(input.size());
    switch (below(6)) {
      case 0: input[at] ^= static_cast<std::uint8_t>(1u << below(8)); break;
      case 1: input[at] = static_cast<std::uint8_t>(random()); break;
      case 2: input.resize(at); break;
      case 3: input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(random())); break;
      case 4: input.erase(input.begin() + static_cast<std::ptrdiff_t>(at)); break;
      default: std::memset(input.data() + at, below(2) ? 0xff : 0x00, std::min<std::size_t>(4, input.size() - at));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  int first = 1;
  long mutations = 0;
  if (argc > 2 && std::strcmp(argv[1], "--mutate") == 0) {
    mutations = std::strtol(argv[2], nullptr, 10);
    first = 3;
  }
  unsigned long inputs = 0;
  std::mt19937 random(20231115);
  for (int i = first; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 2;
    }
    const Input seed{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    LLVMFuzzerTestOneInput(seed.data(), seed.size());
    for (long m = 0; m < mutations; ++m) {
      Input input = seed;
      mutate(input, random);
      LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    inputs += 1 + static_cast<unsigned long>(mutations);
  }
  std::printf("%lu inputs\n", inputs);
  return 0;
}
#endif
