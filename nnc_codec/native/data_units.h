// Where the data units of a bitstream lie, so that each can be decoded alone behind the units that all share.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "single.h"
#include "status.h"

namespace nnc {

struct ByteRange {
  std::size_t offset = 0;
  std::size_t size = 0;
};

struct DataUnits {
  std::size_t head_size = 0;     // start unit and parameter set, at the front
  std::vector<ByteRange> units;  // in the order of the bitstream
};

// Parses the headers. Only STR, MPS and then data units are expected; anything else is Code::unsupported.
Status find_data_units(const std::uint8_t* data, std::size_t size, const Limits& limits, DataUnits* out);

}  // namespace nnc
