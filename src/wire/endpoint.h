// An IP endpoint as Shunt's messages and tables carry it: family, address, port.
//
// Pure values: no system calls. IPv4-mapped IPv6 addresses are folded to IPv4 by `from_sockaddr`, so
// that two ways to write one address compare equal.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>

#include "base/result.h"

namespace shunt::wire {

struct Endpoint {
  std::uint16_t family = 0;                // AF_INET, AF_INET6; 0: none
  std::uint16_t port = 0;                  // host byte order
  std::array<std::uint8_t, 16> address{};  // network order; IPv4 uses the first four

  friend bool operator==(const Endpoint&, const Endpoint&) = default;

  bool is_any() const { return address == std::array<std::uint8_t, 16>{}; }
  bool is_loopback() const;
  bool same_address(const Endpoint& o) const { return family == o.family && address == o.address; }
};

// EAFNOSUPPORT: not AF_INET or AF_INET6. EINVAL: `length` is too short for the family.
Result<Endpoint> from_sockaddr(const sockaddr* address, socklen_t length);

// Writes a sockaddr of `family` (an IPv4 endpoint for AF_INET6 becomes IPv4-mapped); returns its
// length. An IPv6 endpoint for AF_INET is the caller's error and gives 0.
socklen_t to_sockaddr(const Endpoint& endpoint, std::uint16_t family, sockaddr_storage* out);

}  // namespace shunt::wire
