// Tensors and options from arbitrary bytes through quantizer, encoder and decoder: the integers must come back, and the
// portable kernels must write the same bytes as the others. Started as fuzz_single; a file is no bitstream here but a
// source of choices.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "arith_decoder.h"
#include "cpu.h"
#include "quantizer.h"
#include "tensor_decoder.h"
#include "tensor_encoder.h"

namespace {

class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  // 0 to n - 1; zeros once the bytes are used up.
  std::uint32_t below(std::uint32_t n) { return n ? word() % n : 0; }
  bool flip() { return byte() & 1; }
  std::uint8_t byte() { return position_ < size_ ? data_[position_++] : 0; }
  std::uint32_t word() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | byte();
    return value;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t position_ = 0;
};

class Collect final : public nnc::IntegerSink {
 public:
  explicit Collect(std::size_t count) : values(count, 77) {}
  bool write(std::uint64_t position, const std::int32_t* from, std::size_t count) override {
    std::memcpy(values.data() + position, from, count * sizeof *from);
    return true;
  }
  bool zeros(std::uint64_t position, std::uint64_t count) override {
    std::memset(values.data() + position, 0, count * sizeof values[0]);
    return true;
  }
  std::vector<std::int32_t> values;
};

std::int32_t integer(Choices& choices, std::uint32_t kind, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  if (kind == 0) value = static_cast<std::int8_t>(choices.byte()) / 32;
  if (kind == 1) value = choices.byte() > 240 ? static_cast<std::int8_t>(choices.byte()) : 0;
  if (kind == 2) value = static_cast<std::int32_t>(choices.word());
  return static_cast<std::int32_t>(value < low ? low : value > high ? high : value);
}

std::vector<std::uint8_t> encode(const nnc::TensorCoding& coding, const nnc::EncodeOptions& options,
                                 const std::vector<std::int32_t>& values) {
  nnc::PayloadEncoder encoder;
  if (!encoder.write_tensor(coding, options, values.data()).ok()) __builtin_trap();
  return encoder.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  nnc::TensorCoding coding;
  coding.rows = 1 + choices.below(40);
  coding.cols = 1 + choices.below(70);
  const std::size_t count = static_cast<std::size_t>(coding.rows * coding.cols);
  constexpr std::uint32_t kUnary[] = {1, 2, 11, 40, 256};
  coding.unary_length = kUnary[choices.below(5)];
  coding.scan_order = choices.below(5);
  coding.dq = choices.flip();
  coding.parent_present = choices.flip();
  std::int64_t low = -2147483647, high = 2147483647;
  if (!coding.dq && choices.below(4) == 0) {
    coding.codebook_size = 1 + choices.below(50);
    coding.codebook_zero = choices.below(static_cast<std::uint32_t>(coding.codebook_size));
    low = -static_cast<std::int64_t>(coding.codebook_zero);
    high = static_cast<std::int64_t>(coding.codebook_size) - 1 + low;
  }
  nnc::EncodeOptions options;
  options.param_opt = choices.flip();
  // Skipped rows in a scan of several blocks a row leave other states behind than the quantizer counts on.
  options.row_skipping = choices.flip() && !(coding.dq && coding.scan_order);

  std::vector<std::int32_t> reference(count);
  std::vector<std::uint8_t> history(count);
  if (coding.parent_present && choices.flip()) {
    for (auto& r : reference) r = integer(choices, 0, -3, 3);
    coding.reference = reference.data();
  }
  if (coding.parent_present && choices.flip()) {
    for (auto& h : history) h = choices.byte() & 1;
    coding.history = history.data();
    options.hist_on = coding.matrix() && choices.flip();
  }

  std::vector<std::int32_t> values(count);
  if (coding.dq) {
    std::vector<float> weights(count);
    const std::uint32_t kind = choices.below(2);
    for (auto& w : weights) w = static_cast<float>(integer(choices, kind, -128, 127)) * 0.3f;
    nnc::TensorCoding plain = coding;
    const float lambda = static_cast<float>(choices.below(3)) * 0.1f;
    const nnc::Status status = lambda > 0 ? nnc::quantize_rate(weights.data(), plain, 0.25f, lambda, values.data())
                                          : nnc::quantize_trellis(weights.data(), plain, 0.25f, values.data());
    if (!status.ok()) __builtin_trap();
  } else {
    const std::uint32_t kind = choices.below(3);
    for (auto& v : values) v = integer(choices, kind, low, high);
  }

  const std::vector<std::uint8_t> payload = encode(coding, options, values);
  nnc::use_portable_kernels(true);
  const std::vector<std::uint8_t> portable = encode(coding, options, values);
  nnc::use_portable_kernels(false);
  if (payload != portable) __builtin_trap();

  nnc::ArithDecoder decoder(payload.data(), payload.size());
  nnc::TensorDecoder tensor(decoder, coding);
  Collect sink(count);
  if (!tensor.read_head().ok() || !tensor.read_levels(sink).ok()) __builtin_trap();
  if (!decoder.terminate() || !decoder.ends_cleanly() || sink.values != values) __builtin_trap();
  return 0;
}

#include "replay.h"
