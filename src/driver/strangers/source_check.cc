#include "driver/strangers/source_check.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "window/unique_fd.h"

namespace shunt::driver {
namespace {

template <typename T>
std::optional<T> option(int socket, int level, int name) {
  T value{};
  socklen_t length = sizeof value;
  if (::getsockopt(socket, level, name, &value, &length) != 0) return std::nullopt;
  return value;
}

bool is_idle_tcp(int socket) {
  const auto domain = option<int>(socket, SOL_SOCKET, SO_DOMAIN);
  if (domain != AF_INET && domain != AF_INET6) return false;
  if (option<int>(socket, SOL_SOCKET, SO_TYPE) != SOCK_STREAM) return false;
  if (option<int>(socket, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP) return false;
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
  return info.tcpi_state == TCP_CLOSE;  // bound at most: neither listening nor connected
}

}  // namespace

std::uint64_t own_netns_cookie() {
  const window::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto cookie =
      socket ? option<std::uint64_t>(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE) : std::nullopt;
  if (!cookie) {
    throw std::system_error(errno, std::generic_category(),
                            "the kernel does not name network namespaces (SO_NETNS_COOKIE, Linux "
                            "5.14 or later)");
  }
  return *cookie;
}

std::optional<wire::Endpoint> reserved_source(int socket, const wire::Partition& self,
                                              std::uint64_t netns_cookie,
                                              const wire::Endpoint& destination) {
  if (!is_idle_tcp(socket)) return std::nullopt;
  if (option<std::uint64_t>(socket, SOL_SOCKET, SO_NETNS_COOKIE) != netns_cookie) {
    return std::nullopt;
  }
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    return std::nullopt;
  }
  const auto endpoint = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&bound), length);
  if (!endpoint.ok() || endpoint.value().port == 0) return std::nullopt;
  wire::Endpoint source = endpoint.value();
  if (source.is_any()) {
    for (std::uint32_t i = 0; i < self.address_count; ++i) {
      if (self.addresses[i].family != destination.family) continue;
      source.family = destination.family;
      source.address = self.addresses[i].address;
      return source;
    }
    return std::nullopt;
  }
  if (source.family != destination.family || !self.owns(source)) return std::nullopt;
  return source;
}

bool is_bell(int socket) {
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  return option<int>(socket, SOL_SOCKET, SO_DOMAIN) == AF_UNIX &&
         option<int>(socket, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
         option<int>(socket, SOL_SOCKET, SO_ACCEPTCONN) == 0 &&
         ::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
}

}  // namespace shunt::driver
