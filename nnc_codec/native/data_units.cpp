#include "data_units.h"

#include "guard.h"
#include "nnc_syntax.h"

namespace nnc {

Status find_data_units(const std::uint8_t* data, std::size_t size, const Limits& limits, DataUnits* out) {
  return without_exceptions([&]() -> Status {
    syntax::Context context;
    context.max_elements = static_cast<std::int64_t>(limits.max_elements);
    context.max_dims = limits.max_dims;
    bool started = false, parameters = false;
    for (std::size_t offset = 0; offset < size;) {
      syntax::Unit unit;
      Status status = syntax::read_unit(data, size, offset, context, unit);
      if (!status.ok()) return status;
      const std::int64_t type = unit.header.nnr_unit_type;
      const std::uint64_t bit = std::uint64_t{8} * offset;
      if (started == (type == syntax::NNR_STR)) return {Code::corrupt, "nnr_unit_type: start unit misplaced", bit};
      if (type == syntax::NNR_STR) {
        started = true;
        syntax::update(context, unit.header.start_unit_header);
      } else if (type == syntax::NNR_MPS && !parameters) {
        parameters = true;
        syntax::ModelParameterSet mps;
        status = syntax::read(unit.payload, context, mps);
        if (!status.ok()) return status;
        syntax::update(context, mps);
      } else if (type == syntax::NNR_NDU && parameters) {
        if (out->units.empty()) out->head_size = offset;
        out->units.push_back({offset, static_cast<std::size_t>(unit.size)});
      } else {
        return {Code::unsupported, "nnr_unit_type", bit};
      }
      offset += unit.size;
    }
    return {};
  });
}

}  // namespace nnc
