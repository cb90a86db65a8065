#include "single.h"

#include "single_tensor.h"

namespace nnc {

Status inspect_single(const std::uint8_t* data, std::size_t size, const Limits& limits, SingleInfo* info) {
  SingleTensor tensor;
  if (Status s = tensor.open(data, size, limits); !s.ok()) return s;
  *info = tensor.info();
  return {};
}

Status decode_single(const std::uint8_t* data, std::size_t size, const Limits& limits, DType type, void* out,
                     std::uint64_t elements) {
  SingleTensor tensor;
  if (Status s = tensor.open(data, size, limits); !s.ok()) return s;
  if (tensor.info().elements != elements)
    return {Code::corrupt, "tensor_dimensions: not the expected element count", 0};
  return tensor.decode(type, out);
}

}  // namespace nnc
