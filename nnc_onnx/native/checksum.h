// CRC-32 as in zlib, PNG and Ethernet (polynomial 0xEDB88320, reflected).
#pragma once
#include <cstddef>
#include <cstdint>

namespace nnc {

std::uint32_t crc32(const std::uint8_t* data, std::size_t size);

}  // namespace nnc
