#include "single.h"

#include <cmath>
#include <cstring>

#include "guard.h"
#include "nnc_syntax.h"
#include "quantizer.h"
#include "reconstruct.h"
#include "tensor_decoder.h"

namespace nnc {

namespace {

using syntax::CompressedDataUnitHeader;

// The one data unit of a bitstream, with what the units before it said.
struct Found {
  syntax::Context context;
  syntax::Unit unit;
  std::uint64_t elements = 1;
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
  const CompressedDataUnitHeader& header = found->unit.header.compressed_data_unit_header;
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

// Repeats `read` as a payload of NNCodec 0.x if the codeword of an edition-1 stream does not end where it should.
Status decode_coded(const Found& found, DType type, std::uint8_t* out) {
  const CompressedDataUnitHeader& header = found.unit.header.compressed_data_unit_header;
  const syntax::Bytes payload = found.unit.bytes();
  const std::uint64_t base = std::uint64_t{8} * static_cast<std::uint64_t>(payload.data - found.unit.payload.data());
  const auto placed = [base](Status s) {
    s.bit_offset += base;
    return s;
  };
  Reconstruction how;
  how.type = type;
  how.integers = header.nnr_compressed_data_unit_payload_type == syntax::NNR_PT_INT;
  if (Status s = check(how); !s.ok()) return s;

  TensorCoding coding;
  coding.rows = header.tensor_dimensions.empty() ? 1 : header.tensor_dimensions[0];
  coding.cols = found.elements / coding.rows;
  coding.edition2 = found.context.general_profile_idc == 1;
  coding.dq = header.dq_flag && !how.integers;
  coding.unary_length = header.cabac_unary_length_minus1 + 1;
  coding.scan_order = header.scan_order;
  coding.parent_present = header.parent_node_id_present_flag != 0;
  std::vector<std::int32_t> entries;
  if (header.codebook_present_flag) {
    if (Status s = syntax::codebook_entries(header.codebook, entries); !s.ok()) return s;
    coding.codebook_size = entries.size();
    coding.codebook_zero = header.codebook.codebook_delta_left.size();
    how.codebook = entries.data();
    how.codebook_size = coding.codebook_size;
    how.codebook_zero = coding.codebook_zero;
  }

  for (;;) {
    ArithDecoder decoder(payload.data, payload.size);
    if (!how.integers) {
      const unsigned density = static_cast<unsigned>(found.context.mps_qp_density);
      const unsigned bits = 6 + density;
      const std::int32_t delta = static_cast<std::int32_t>(decoder.bypass(bits) << (32 - bits)) >> (32 - bits);
      how.step = step_size(static_cast<std::int32_t>(found.context.mps_quantization_parameter) + delta, density);
      if (!(how.step > 0.0f) || !std::isfinite(how.step)) return placed({Code::corrupt, "qp", decoder.place()});
    }
    TensorDecoder tensor(decoder, coding);
    Status status = tensor.read_head();
    if (status.ok()) {
      ValueSink sink(how, out);
      status = tensor.read_levels(sink);
    }
    if (status.ok()) {
      if (!decoder.terminate())
        status = {Code::corrupt, "terminate bin", decoder.place()};
      else if (!decoder.ends_cleanly())
        status = {Code::corrupt, "stop bit or trailing bytes", decoder.place()};
    }
    if (status.ok() || coding.edition2 || coding.esc_indices == 32) return placed(status);
    coding.esc_indices = 32;
  }
}

Status decode_raw(const Found& found, DType type, std::uint8_t* out) {
  const syntax::Bytes payload = found.unit.bytes();
  const std::uint64_t bit = std::uint64_t{8} * static_cast<std::uint64_t>(payload.data - found.unit.payload.data());
  if (payload.size / 4 < found.elements) return {Code::truncated, "raw_float32_parameter", bit};
  if (payload.size != 4 * found.elements) return {Code::corrupt, "raw_float32_parameter: trailing bytes", bit};
  Reconstruction how;
  how.type = type;
  if (Status s = check(how); !s.ok()) return s;
  for (std::uint64_t i = 0; i < found.elements; ++i) {
    const std::uint8_t* const b = payload.data + 4 * i;
    const std::uint32_t bits = b[0] | std::uint32_t{b[1]} << 8 | std::uint32_t{b[2]} << 16 | std::uint32_t{b[3]} << 24;
    float value;
    std::memcpy(&value, &bits, 4);
    store_floats(type, out, i, &value, 1);
  }
  return {};
}

}  // namespace

Status inspect_single(const std::uint8_t* data, std::size_t size, const Limits& limits, SingleInfo* info) {
  return without_exceptions([&]() -> Status {
    Found found;
    if (Status s = find(data, size, limits, &found); !s.ok()) return s;
    const CompressedDataUnitHeader& header = found.unit.header.compressed_data_unit_header;
    info->payload_type = header.nnr_compressed_data_unit_payload_type;
    info->dims_count = static_cast<std::uint32_t>(header.tensor_dimensions.size());
    if (info->dims_count > 16) return {Code::limit_exceeded, "count_tensor_dimensions", 0};
    for (std::uint32_t i = 0; i < info->dims_count; ++i) info->dims[i] = header.tensor_dimensions[i];
    info->elements = found.elements;
    return {};
  });
}

Status decode_single(const std::uint8_t* data, std::size_t size, const Limits& limits, DType type, void* out,
                     std::uint64_t elements) {
  return without_exceptions([&]() -> Status {
    Found found;
    if (Status s = find(data, size, limits, &found); !s.ok()) return s;
    if (found.elements != elements) return {Code::corrupt, "tensor_dimensions: not the expected element count", 0};
    const CompressedDataUnitHeader& header = found.unit.header.compressed_data_unit_header;
    std::uint8_t* const bytes = static_cast<std::uint8_t*>(out);
    if (header.nnr_compressed_data_unit_payload_type == syntax::NNR_PT_RAW_FLOAT) return decode_raw(found, type, bytes);
    return decode_coded(found, type, bytes);
  });
}

}  // namespace nnc
