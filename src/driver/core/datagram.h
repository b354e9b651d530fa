// What drivers send to each other's `.peer` sockets, beside the messages in the output queues: the
// descriptors that belong to a CONNECT, and doorbells. One kernel, so the host's own byte order.
#pragma once

#include <cstdint>

namespace shunt::driver {

inline constexpr std::uint32_t kDatagramMagic = 0x47444853;  // "SHDG"

enum class DatagramKind : std::uint32_t { kDoorbell = 1, kDescriptors = 2 };

struct Datagram {
  std::uint32_t magic = kDatagramMagic;
  std::uint32_t kind = 0;       // DatagramKind
  std::uint32_t partition = 0;  // number of the sender
  std::uint32_t reserved = 0;
  std::uint64_t generation = 0;  // of the sending driver
  std::uint64_t id = 0;          // of the CONNECT, 0 for a doorbell
};
static_assert(sizeof(Datagram) == 32);

}  // namespace shunt::driver
