// Python module. Converts arguments, releases the GIL, hands the status back; decides nothing.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>

#include "cost.h"
#include "cpu.h"
#include "feedback.h"
#include "guard.h"
#include "quantizer.h"
#include "reconstruct.h"
#include "single.h"
#include "tensor_decoder.h"
#include "tensor_encoder.h"

namespace nb = nanobind;
using namespace nnc;

namespace {

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntsOut = nb::ndarray<std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

using PyStatus = nb::typed<nb::tuple, int, nb::str, std::uint64_t>;
using PyEntryPoint = nb::typed<nb::tuple, std::uint64_t, std::uint32_t, std::uint32_t>;

PyStatus to_python(const Status& s) {
  return nb::borrow<PyStatus>(nb::make_tuple(static_cast<int>(s.code), s.what, s.bit_offset));
}

template <class F>
Status guarded(F&& f) {
  nb::gil_scoped_release release;
  return without_exceptions(f);
}

Status size_mismatch() { return {Code::invalid_argument, "array sizes do not match the tensor", 0}; }

// Attaches reference and history arrays; false if their sizes are wrong.
bool attach(TensorCoding& t, const std::optional<Ints>& reference, const std::optional<Flags>& history) {
  const std::uint64_t count = t.rows * t.cols;
  if ((reference && reference->size() != count) || (history && history->size() != count)) return false;
  t.reference = reference ? reference->data() : nullptr;
  t.history = history ? history->data() : nullptr;
  return true;
}

Reconstruction reconstruction(int type, bool integers, float step, const std::optional<Ints>& codebook,
                              const TensorCoding& coding) {
  Reconstruction how;
  how.type = static_cast<DType>(type);
  how.integers = integers;
  how.step = step;
  if (codebook) {
    how.codebook = codebook->data();
    how.codebook_size = codebook->size();
    how.codebook_zero = coding.codebook_zero;
  }
  return how;
}

class PyDecoder {
 public:
  explicit PyDecoder(Bytes data) : data_(data), decoder_(data.data(), data.size()) {}

  std::int32_t read_qp(unsigned bits) {
    const std::uint32_t raw = decoder_.bypass(bits);
    return static_cast<std::int32_t>(raw << (32 - bits)) >> (32 - bits);
  }

  PyStatus read_tensor(TensorCoding coding, BytesOut out, int type, bool integers, float step, std::optional<Ints> codebook,
                        std::optional<Ints> reference, std::optional<Flags> history) {
    const Reconstruction how = reconstruction(type, integers, step, codebook, coding);
    if (const Status typed = check(how); !typed.ok()) return to_python(typed);
    if (out.size() != coding.rows * coding.cols * size_of(how.type) || !attach(coding, reference, history))
      return to_python(size_mismatch());
    return to_python(guarded([&]() -> Status {
      TensorDecoder tensor(decoder_, coding);
      const Status head = tensor.read_head();
      if (!head.ok()) return head;
      ValueSink sink(how, out.data());
      return tensor.read_levels(sink);
    }));
  }

  // Block rows first..last of the codeword's first tensor, which begin at `out`.
  PyStatus read_rows(TensorCoding coding, std::uint64_t first, std::uint64_t last, std::vector<std::uint64_t> distances,
                      std::vector<std::uint32_t> windows, std::vector<std::uint32_t> states, BytesOut out, int type,
                      bool integers, float step, std::optional<Ints> codebook) {
    Reconstruction how = reconstruction(type, integers, step, codebook, coding);
    if (const Status typed = check(how); !typed.ok()) return to_python(typed);
    const std::uint64_t block = std::uint64_t{4} << coding.effective_scan();
    const std::uint64_t end = std::min(coding.rows, (last + 1) * block);
    if (first > last || last * block >= coding.rows || last > distances.size() || windows.size() != distances.size() ||
        states.size() != distances.size() || out.size() != (end - first * block) * coding.cols * size_of(how.type))
      return to_python(size_mismatch());
    return to_python(guarded([&]() -> Status {
      TensorDecoder tensor(decoder_, coding);
      if (const Status head = tensor.read_head(); !head.ok()) return head;
      ValueSink sink(how, out.data(), first * block * coding.cols);
      EntryPoint entry;
      entry.offset = decoder_.mark();
      for (std::uint64_t row = 0; row <= last; ++row) {
        if (row) entry = {entry.offset + distances[row - 1], windows[row - 1], states[row - 1]};
        if (row < first) continue;
        if (entry.offset > 8 * static_cast<std::uint64_t>(data_.size()))
          return {Code::corrupt, "entry point outside the payload", entry.offset};
        if (const Status s = tensor.read_block_row(row, row ? &entry : nullptr, sink); !s.ok()) return s;
      }
      return {};
    }));
  }

  PyStatus finish() {
    Status s;
    if (decoder_.overrun())
      s = {Code::truncated, "quant_tensor", decoder_.place()};
    else if (!decoder_.terminate())
      s = {Code::corrupt, "terminate bin", decoder_.place()};
    else if (!decoder_.ends_cleanly())
      s = {Code::corrupt, "stop bit or trailing bytes", decoder_.place()};
    return to_python(s);
  }

 private:
  Bytes data_;
  ArithDecoder decoder_;
};

class PyEncoder {
 public:
  void write_qp(std::int32_t qp, unsigned bits) { encoder_.write_qp(qp, bits); }

  PyStatus write_tensor(TensorCoding coding, Ints values, bool row_skipping, bool param_opt, bool hist_on,
                         std::optional<Ints> reference, std::optional<Flags> history) {
    if (values.size() != coding.rows * coding.cols || !attach(coding, reference, history)) return to_python(size_mismatch());
    EncodeOptions options;
    options.row_skipping = row_skipping;
    options.param_opt = param_opt;
    options.hist_on = hist_on;
    return to_python(guarded([&] { return encoder_.write_tensor(coding, options, values.data()); }));
  }

  nb::bytes finish() {
    const std::vector<std::uint8_t>& code = encoder_.finish();
    return nb::bytes(reinterpret_cast<const char*>(code.data()), code.size());
  }
  nb::typed<nb::list, PyEntryPoint> entry_points() const {
    nb::typed<nb::list, PyEntryPoint> list;
    for (const ListedEntryPoint& e : encoder_.entry_points()) list.append(nb::make_tuple(e.distance, e.window, e.state));
    return list;
  }
  nb::bytes parameter_sets() const {
    const std::vector<std::uint8_t>& sets = encoder_.parameter_sets();
    return nb::bytes(reinterpret_cast<const char*>(sets.data()), sets.size());
  }

 private:
  PayloadEncoder encoder_;
};

PyStatus decode_one(Bytes data, BytesOut out, int type, std::uint64_t max_elements, std::uint32_t max_dims) {
  const DType element = static_cast<DType>(type);
  if (out.size() % size_of(element)) return to_python(size_mismatch());
  Limits limits;
  limits.max_elements = max_elements;
  limits.max_dims = max_dims;
  return to_python(guarded([&] {
    return decode_single(data.data(), data.size(), limits, element, out.data(), out.size() / size_of(element));
  }));
}

nb::bytes cost_numbers() {
  const CostTable& t = cost_table();
  std::vector<std::uint8_t> out;
  for (const auto* half : {&t.lps, &t.mps})
    for (const std::uint32_t v : *half)
      for (int b = 0; b < 4; ++b) out.push_back(static_cast<std::uint8_t>(v >> (8 * b)));
  return nb::bytes(reinterpret_cast<const char*>(out.data()), out.size());
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Arithmetic coder, quantizers and reconstruction. Functions return (code, what, bit_offset).";

  nb::class_<TensorCoding>(m, "TensorCoding")
      .def(
          "__init__",
          [](TensorCoding* self, std::uint64_t rows, std::uint64_t cols, bool edition2, bool dq, std::uint32_t unary_length,
             std::uint32_t scan_order, bool parent_present, std::uint64_t codebook_size, std::uint64_t codebook_zero,
             unsigned esc_indices) {
            new (self) TensorCoding{rows,           cols,          edition2,      dq,      unary_length, scan_order,
                                    parent_present, codebook_size, codebook_zero, nullptr, nullptr,      esc_indices};
          },
          nb::kw_only(), nb::arg("rows"), nb::arg("cols"), nb::arg("edition2") = true, nb::arg("dq") = false,
          nb::arg("unary_length") = 10, nb::arg("scan_order") = 0, nb::arg("parent_present") = false,
          nb::arg("codebook_size") = 0, nb::arg("codebook_zero") = 0, nb::arg("esc_indices") = 31);

  nb::class_<PyDecoder>(m, "PayloadDecoder")
      .def(nb::init<Bytes>(), nb::arg("data"))
      .def("read_qp", &PyDecoder::read_qp, nb::arg("bits"))
      .def("read_tensor", &PyDecoder::read_tensor, nb::arg("coding"), nb::arg("out"), nb::arg("type"), nb::arg("integers"),
           nb::arg("step") = 1.0f, nb::arg("codebook").none() = nb::none(), nb::arg("reference").none() = nb::none(),
           nb::arg("history").none() = nb::none())
      .def("read_rows", &PyDecoder::read_rows, nb::arg("coding"), nb::arg("first"), nb::arg("last"), nb::arg("distances"),
           nb::arg("windows"), nb::arg("states"), nb::arg("out"), nb::arg("type"), nb::arg("integers"),
           nb::arg("step") = 1.0f, nb::arg("codebook").none() = nb::none())
      .def("finish", &PyDecoder::finish);

  nb::class_<PyEncoder>(m, "PayloadEncoder")
      .def(nb::init<>())
      .def("write_qp", &PyEncoder::write_qp, nb::arg("qp"), nb::arg("bits"))
      .def("write_tensor", &PyEncoder::write_tensor, nb::arg("coding"), nb::arg("values"), nb::arg("row_skipping") = false,
           nb::arg("param_opt") = true, nb::arg("hist_on") = false, nb::arg("reference").none() = nb::none(),
           nb::arg("history").none() = nb::none())
      .def("finish", &PyEncoder::finish)
      .def("entry_points", &PyEncoder::entry_points)
      .def("parameter_sets", &PyEncoder::parameter_sets);

  m.def("decode_single", &decode_one, nb::arg("data"), nb::arg("out"), nb::arg("type"), nb::arg("max_elements"),
        nb::arg("max_dims"));
  m.def("step_size", &step_size, nb::arg("qp"), nb::arg("qp_density"));
  m.def(
      "quantize_uniform",
      [](Floats weights, float step, IntsOut out) {
        if (weights.size() != out.size()) return to_python(size_mismatch());
        return to_python(guarded([&] { return quantize_uniform(weights.data(), weights.size(), step, out.data()); }));
      },
      nb::arg("weights"), nb::arg("step"), nb::arg("out"));
  m.def(
      "quantize_trellis",
      [](Floats weights, TensorCoding coding, float step, IntsOut out) {
        if (weights.size() != out.size() || weights.size() != coding.rows * coding.cols) return to_python(size_mismatch());
        return to_python(guarded([&] { return quantize_trellis(weights.data(), coding, step, out.data()); }));
      },
      nb::arg("weights"), nb::arg("coding"), nb::arg("step"), nb::arg("out"));
  m.def(
      "quantize_rate",
      [](Floats weights, TensorCoding coding, float step, float lambda, IntsOut out, bool keep_zeros) {
        if (weights.size() != out.size() || weights.size() != coding.rows * coding.cols) return to_python(size_mismatch());
        return to_python(
            guarded([&] { return quantize_rate(weights.data(), coding, step, lambda, out.data(), keep_zeros); }));
      },
      nb::arg("weights"), nb::arg("coding"), nb::arg("step"), nb::arg("lambda_"), nb::arg("out"),
      nb::arg("keep_zeros") = false);
  m.def(
      "quantize_feedback",
      [](Floats weights, std::uint64_t rows, std::uint64_t cols, bool across, std::uint64_t groups, Floats feedback,
         Floats importance, bool dq, std::uint32_t unary_length, float step, float lambda, IntsOut out, bool keep_zeros,
         std::optional<Floats> pull) {
        const FeedbackProblem problem{weights.data(),    rows,       cols, across, groups, feedback.data(),
                                      importance.data(), keep_zeros, pull ? pull->data() : nullptr};
        const std::uint64_t n = across ? rows : cols;
        if (!n || n > kMostReduced || rows > weights.size() || cols > weights.size() || groups > rows ||
            weights.size() != rows * cols || weights.size() != out.size() || importance.size() != groups * n ||
            feedback.size() != groups * n * n || (pull && pull->size() != weights.size()))
          return to_python(size_mismatch());
        return to_python(
            guarded([&] { return quantize_feedback(problem, dq, unary_length, step, lambda, out.data()); }));
      },
      nb::kw_only(), nb::arg("weights"), nb::arg("rows"), nb::arg("cols"), nb::arg("across"), nb::arg("groups"),
      nb::arg("feedback"), nb::arg("importance"), nb::arg("dq"), nb::arg("unary_length"), nb::arg("step"),
      nb::arg("lambda_"), nb::arg("out"), nb::arg("keep_zeros") = false, nb::arg("pull") = nb::none());
  m.def("has_avx2", &has_avx2);
  m.def("has_avx512", &has_avx512);
  m.def("use_portable_kernels", &use_portable_kernels, nb::arg("portable"));
  m.def("use_avx512_kernels", &use_avx512_kernels, nb::arg("use"));
  m.def("cost_numbers", &cost_numbers);
}
