#include "single_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "guard.h"
#include "nnc_syntax.h"
#include "quantizer.h"

namespace nnc {

namespace {

using syntax::CompressedDataUnitHeader;

// The one data unit of a bitstream, with what the units before it said.
struct Found {
  syntax::Context context;
  syntax::Unit unit;
  std::uint64_t elements = 1;

  const CompressedDataUnitHeader& header() const { return unit.header.compressed_data_unit_header; }
};

Status find(const std::uint8_t* data, std::size_t size, const Limits& limits, Found* found) {
  found->context.max_elements = static_cast<std::int64_t>(limits.max_elements);
  found->context.max_dims = limits.max_dims;
  bool started = false, parameters = false, present = false;
  for (std::size_t offset = 0; offset < size;) {
    syntax::Unit unit;
    Status status = syntax::read_unit(data, size, offset, found->context, unit);
    if (!status.ok()) return status;
    const std::uint64_t bit = std::uint64_t{8} * offset;
    const std::int64_t type = unit.header.nnr_unit_type;
    if (started == (type == syntax::NNR_STR)) return {Code::corrupt, "nnr_unit_type: start unit misplaced", bit};
    if (type == syntax::NNR_STR) {
      started = true;
      syntax::update(found->context, unit.header.start_unit_header);
      if (Status end = syntax::expect_end(unit.payload); !end.ok()) return end;
    } else if (type == syntax::NNR_MPS) {
      if (parameters) return {Code::corrupt, "nnr_unit_type: second model parameter set", bit};
      parameters = true;
      syntax::ModelParameterSet mps;
      status = syntax::read(unit.payload, found->context, mps);
      if (status.ok()) status = syntax::expect_end(unit.payload);
      if (!status.ok()) return status;
      syntax::update(found->context, mps);
    } else if (!parameters) {
      return {Code::corrupt, "nnr_unit_type: unit before the model parameter set", bit};
    } else if (type == syntax::NNR_NDU) {
      if (present) return {Code::unsupported, "nnr_unit_type: more than one data unit", bit};
      present = true;
      found->unit = unit;
    } else if (type != syntax::NNR_TPL && type != syntax::NNR_QNT) {
      return {Code::unsupported, "nnr_unit_type", bit};
    }
    offset += unit.size;
  }
  if (!present) return {Code::truncated, "no data unit", std::uint64_t{8} * size};
  const CompressedDataUnitHeader& header = found->header();
  const std::uint64_t bit = std::uint64_t{8} * found->unit.offset;
  if (header.nnr_compressed_data_unit_payload_type == syntax::NNR_PT_BLOCK)
    return {Code::unsupported, "nnr_compressed_data_unit_payload_type: block", bit};
  if (header.temporal_context_modeling_flag)
    return {Code::unsupported, "temporal_context_modeling_flag without a base model", bit};
  if (header.codebook_present_flag && header.dq_flag)
    return {Code::unsupported, "dq_flag together with a codebook", bit};
  for (const std::uint64_t d : header.tensor_dimensions) found->elements *= d;  // bounded while parsing
  return {};
}

Status outside() { return {Code::invalid_argument, "block rows outside the tensor", 0}; }

float load_float(const std::uint8_t* b) {
  const std::uint32_t bits = b[0] | std::uint32_t{b[1]} << 8 | std::uint32_t{b[2]} << 16 | std::uint32_t{b[3]} << 24;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace

struct SingleTensor::Impl {
  SingleInfo info;
  syntax::Bytes payload;
  std::uint64_t base = 0;  // bit position of the payload
  bool raw = false;
  unsigned qp_bits = 0;  // 0 for integers
  TensorCoding coding;
  Reconstruction how;  // for floats of 32 bits
  std::vector<std::int32_t> codebook;
  std::vector<EntryPoint> entries;  // of all block rows but the first; offsets count from the first one

  Status placed(Status status) const {
    status.bit_offset += base;
    return status;
  }

  Status prepare(const Found& found) {
    const CompressedDataUnitHeader& header = found.header();
    info.payload_type = header.nnr_compressed_data_unit_payload_type;
    info.dims_count = static_cast<std::uint32_t>(header.tensor_dimensions.size());
    if (info.dims_count > 16) return {Code::limit_exceeded, "count_tensor_dimensions", 0};
    for (std::uint32_t i = 0; i < info.dims_count; ++i) info.dims[i] = header.tensor_dimensions[i];
    info.elements = found.elements;
    payload = found.unit.bytes();
    base = std::uint64_t{8} * static_cast<std::uint64_t>(payload.data - found.unit.payload.data());
    coding.rows = header.tensor_dimensions.empty() ? 1 : header.tensor_dimensions[0];
    coding.cols = coding.rows ? found.elements / coding.rows : 0;
    raw = info.payload_type == syntax::NNR_PT_RAW_FLOAT;
    if (raw) return {};
    how.integers = info.payload_type == syntax::NNR_PT_INT;
    coding.edition2 = found.context.general_profile_idc == 1;
    coding.dq = header.dq_flag && !how.integers;
    coding.unary_length = header.cabac_unary_length_minus1 + 1;
    coding.scan_order = header.scan_order;
    coding.parent_present = header.parent_node_id_present_flag != 0;
    if (header.codebook_present_flag) {
      if (Status s = syntax::codebook_entries(header.codebook, codebook); !s.ok()) return s;
      coding.codebook_size = codebook.size();
      coding.codebook_zero = header.codebook.codebook_delta_left.size();
      how.codebook = codebook.data();
      how.codebook_size = coding.codebook_size;
      how.codebook_zero = coding.codebook_zero;
    }
    if (!how.integers) {
      const unsigned density = static_cast<unsigned>(found.context.mps_qp_density);
      qp_bits = 6 + density;
      ArithDecoder decoder(payload.data, payload.size);
      const std::int32_t delta = static_cast<std::int32_t>(decoder.bypass(qp_bits) << (32 - qp_bits)) >> (32 - qp_bits);
      how.step = step_size(static_cast<std::int32_t>(found.context.mps_quantization_parameter) + delta, density);
      if (!(how.step > 0.0f) || !std::isfinite(how.step)) return placed({Code::corrupt, "qp", decoder.place()});
    }
    read_entry_points(header);
    return {};
  }

  // Entry points that are not what they should be are not used.
  void read_entry_points(const CompressedDataUnitHeader& header) {
    const auto& points = header.cabac_entry_point_list.entry_points;
    if (!coding.edition2 || nnc::block_rows(coding) != points.size() + 1) return;
    std::vector<std::uint64_t> distances;
    if (!syntax::bit_offset_list(header.cabac_entry_point_list, std::uint64_t{8} * payload.size, distances).ok())
      return;
    std::vector<EntryPoint> found(points.size());
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      offset += distances[i];
      found[i] = {offset, points[i].cabac_offset_list, points[i].dq_state_list};
    }
    entries = std::move(found);
  }

  ArithDecoder start() const {
    ArithDecoder decoder(payload.data, payload.size);
    if (qp_bits) decoder.bypass(qp_bits);
    return decoder;
  }

  static Status end(ArithDecoder& decoder) {
    if (!decoder.terminate()) return {Code::corrupt, "terminate bin", decoder.place()};
    if (!decoder.ends_cleanly()) return {Code::corrupt, "stop bit or trailing bytes", decoder.place()};
    return {};
  }

  // Read again as a payload of NNCodec 0.x if the codeword of an edition-1 stream does not end where it should.
  Status read_all(IntegerSink& sink) const {
    TensorCoding variant = coding;
    for (;;) {
      ArithDecoder decoder = start();
      TensorDecoder tensor(decoder, variant);
      Status status = tensor.read_head();
      if (status.ok()) status = tensor.read_levels(sink);
      if (status.ok()) status = end(decoder);
      if (status.ok() || variant.edition2 || variant.esc_indices == 32) return placed(status);
      variant.esc_indices = 32;
    }
  }

  Status read_rows(std::uint64_t first, std::uint64_t count, IntegerSink& sink) const {
    ArithDecoder decoder = start();
    TensorDecoder tensor(decoder, coding);
    if (Status s = tensor.read_head(); !s.ok()) return placed(s);
    const std::uint64_t origin = decoder.mark();
    const auto entry = [&](std::uint64_t row) {
      EntryPoint point = entries[row - 1];
      point.offset += origin;
      return point;
    };
    for (std::uint64_t row = first; row < first + count; ++row) {
      const EntryPoint point = row ? entry(row) : EntryPoint{};
      if (point.offset > std::uint64_t{8} * payload.size)
        return placed({Code::corrupt, "entry point outside the payload", 0});
      if (Status s = tensor.read_block_row(row, row ? &point : nullptr, sink); !s.ok()) return placed(s);
      if (row < entries.size()) {
        if (!tensor.arrives_at(entry(row + 1))) return placed({Code::corrupt, "cabac_entry_point_list", decoder.place()});
      } else if (Status s = end(decoder); !s.ok()) {
        return placed(s);
      }
    }
    return {};
  }

  Status copy_raw(std::uint64_t first, std::uint64_t count, DType type, std::uint8_t* out) const {
    if (payload.size / 4 < info.elements) return placed({Code::truncated, "raw_float32_parameter", 0});
    if (payload.size != 4 * info.elements)
      return placed({Code::corrupt, "raw_float32_parameter: trailing bytes", 0});
    for (std::uint64_t i = 0; i < count; ++i) {
      const float value = load_float(payload.data + 4 * (first + i));
      store_floats(type, out, i, &value, 1);
    }
    return {};
  }
};

SingleTensor::SingleTensor() = default;
SingleTensor::~SingleTensor() = default;
SingleTensor::SingleTensor(SingleTensor&&) noexcept = default;
SingleTensor& SingleTensor::operator=(SingleTensor&&) noexcept = default;

Status SingleTensor::open(const std::uint8_t* data, std::size_t size, const Limits& limits) {
  return without_exceptions([&]() -> Status {
    Found found;
    if (Status s = find(data, size, limits, &found); !s.ok()) return s;
    auto impl = std::make_unique<Impl>();
    if (Status s = impl->prepare(found); !s.ok()) return s;
    impl_ = std::move(impl);
    return {};
  });
}

const SingleInfo& SingleTensor::info() const { return impl_->info; }
std::uint64_t SingleTensor::rows() const { return impl_->coding.rows; }
std::uint64_t SingleTensor::cols() const { return impl_->coding.cols; }

std::uint64_t SingleTensor::block_height() const {
  if (impl_->raw) return 1;
  return impl_->entries.empty() ? rows() : std::uint64_t{4} << impl_->coding.scan_order;
}

std::uint64_t SingleTensor::block_rows() const {
  if (impl_->raw) return rows();
  return impl_->entries.size() + 1;
}

Status SingleTensor::decode(DType type, void* out) const {
  return without_exceptions([&]() -> Status {
    const Reconstruction how = reconstruction(type);
    if (Status s = check(how); !s.ok()) return s;
    auto* const bytes = static_cast<std::uint8_t*>(out);
    if (impl_->raw) return impl_->copy_raw(0, info().elements, type, bytes);
    ValueSink sink(how, bytes);
    return impl_->read_all(sink);
  });
}

Status SingleTensor::decode_block_rows(std::uint64_t first, std::uint64_t count, DType type, void* out) const {
  const Reconstruction how = reconstruction(type);
  if (Status s = check(how); !s.ok()) return s;
  auto* const bytes = static_cast<std::uint8_t*>(out);
  const std::uint64_t position = first * block_height() * cols();
  if (impl_->raw) {
    if (!holds(first, count)) return outside();
    return impl_->copy_raw(position, count * cols(), type, bytes);
  }
  ValueSink sink(how, bytes, position);
  return read_block_rows(first, count, sink);
}

Status SingleTensor::read_block_rows(std::uint64_t first, std::uint64_t count, IntegerSink& sink) const {
  if (impl_->raw) return {Code::unsupported, "raw_float32_parameter", 0};
  if (!holds(first, count)) return outside();
  return without_exceptions(
      [&] { return impl_->entries.empty() ? impl_->read_all(sink) : impl_->read_rows(first, count, sink); });
}

bool SingleTensor::holds(std::uint64_t first, std::uint64_t count) const {
  return count != 0 && first < block_rows() && count <= block_rows() - first;
}

bool SingleTensor::has_levels() const { return !impl_->raw && !impl_->how.integers; }

Status SingleTensor::read_integers(IntegerSink& sink) const {
  if (impl_->raw) return {Code::unsupported, "raw_float32_parameter", 0};
  return without_exceptions([&] { return impl_->read_all(sink); });
}

Reconstruction SingleTensor::reconstruction(DType type) const {
  Reconstruction how = impl_->how;
  how.type = type;
  return how;
}

}  // namespace nnc
