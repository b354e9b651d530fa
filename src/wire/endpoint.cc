#include "wire/endpoint.h"

#include <cerrno>
#include <cstring>

namespace shunt::wire {
namespace {

constexpr std::uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

bool Endpoint::is_loopback() const {
  if (family == AF_INET) return address[0] == 127;
  static constexpr std::array<std::uint8_t, 16> kLoopback6{0, 0, 0, 0, 0, 0, 0, 0,
                                                           0, 0, 0, 0, 0, 0, 0, 1};
  return family == AF_INET6 && address == kLoopback6;
}

Result<Endpoint> from_sockaddr(const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t)) return Error{EINVAL};
  Endpoint e;
  if (address->sa_family == AF_INET) {
    if (length < sizeof(sockaddr_in)) return Error{EINVAL};
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    e.family = AF_INET;
    e.port = ntohs(in.sin_port);
    std::memcpy(e.address.data(), &in.sin_addr, 4);
    return e;
  }
  if (address->sa_family != AF_INET6) return Error{EAFNOSUPPORT};
  // SIN6_LEN_RFC2133: Linux accepts the form without sin6_scope_id (24 bytes).
  if (length < 24) return Error{EINVAL};
  sockaddr_in6 in6{};
  std::memcpy(&in6, address, length < sizeof in6 ? length : sizeof in6);
  e.port = ntohs(in6.sin6_port);
  if (std::memcmp(&in6.sin6_addr, kMappedPrefix, sizeof kMappedPrefix) == 0) {
    e.family = AF_INET;
    std::memcpy(e.address.data(), in6.sin6_addr.s6_addr + 12, 4);
    return e;
  }
  e.family = AF_INET6;
  std::memcpy(e.address.data(), &in6.sin6_addr, 16);
  return e;
}

socklen_t to_sockaddr(const Endpoint& endpoint, std::uint16_t family, sockaddr_storage* out) {
  std::memset(out, 0, sizeof *out);
  if (family == AF_INET) {
    if (endpoint.family != AF_INET) return 0;
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.data(), 4);
    std::memcpy(out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(endpoint.port);
  if (endpoint.family == AF_INET) {
    std::memcpy(&in6.sin6_addr, kMappedPrefix, sizeof kMappedPrefix);
    std::memcpy(in6.sin6_addr.s6_addr + 12, endpoint.address.data(), 4);
  } else {
    std::memcpy(&in6.sin6_addr, endpoint.address.data(), 16);
  }
  std::memcpy(out, &in6, sizeof in6);
  return sizeof in6;
}

}  // namespace shunt::wire
