// A socket's addresses as text: "127.0.0.1:7", "[::1]:7".
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace shunt::test {

inline std::string address_text(const sockaddr_storage& address) {
  char ip[INET6_ADDRSTRLEN] = "?";
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, ip, sizeof ip);
    return "[" + std::string(ip) + "]:" + std::to_string(ntohs(v6.sin6_port));
  }
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, ip, sizeof ip);
    return std::string(ip) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  return "family " + std::to_string(address.ss_family);
}

// `call`: getsockname or getpeername.
template <typename Call>
std::string name_of(int fd, Call call) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::strerror(errno);
  return address_text(address);
}

}  // namespace shunt::test
