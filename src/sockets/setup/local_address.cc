#include "sockets/setup/local_address.h"

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
constexpr std::uint16_t kAnyPort = 9;  // nothing is sent to it
}

bool source_towards(const wire::Endpoint& destination, wire::Endpoint* source) {
  wire::Endpoint to = destination;
  to.port = kAnyPort;
  sockaddr_storage address;
  socklen_t length = wire::to_sockaddr(to, to.family, &address);
  const int fd = sys::socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  bool found = sys::connect(fd, &address, length) == 0;
  length = sizeof address;
  found = found && sys::getsockname(fd, &address, &length) == 0;
  sys::close(fd);
  if (!found) return false;
  const auto e = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  if (!e.ok()) return false;
  *source = e.value();
  source->port = 0;
  return true;
}

bool is_local(const wire::Endpoint& address) {
  if (address.is_loopback()) return true;
  // To one of its own addresses the kernel sends from that address, and to no other.
  wire::Endpoint source;
  return source_towards(address, &source) && source.same_address(address);
}

}  // namespace shunt::sockets
