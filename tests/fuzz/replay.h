// With libFuzzer (clang) LLVMFuzzerTestOneInput is all that is needed; with other compilers this main() replays files, or
// mutates them from a fixed seed:
//   fuzz_... FILE...                 each file
//   fuzz_... --mutate N FILE...      and N mutations of each
#pragma once
#ifndef NNC_LIBFUZZER
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

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
