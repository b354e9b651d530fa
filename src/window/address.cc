#include "window/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstring>

namespace shunt::window {

std::optional<wire::Endpoint> parse_address(const std::string& text) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  if (inet_pton(AF_INET, text.c_str(), &in.sin_addr) == 1) {
    const auto e = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&in), sizeof in);
    return e.ok() ? std::optional(e.value()) : std::nullopt;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  if (inet_pton(AF_INET6, text.c_str(), &in6.sin6_addr) != 1) return std::nullopt;
  const auto e = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&in6), sizeof in6);
  return e.ok() ? std::optional(e.value()) : std::nullopt;
}

std::string address_text(const wire::Endpoint& endpoint) {
  char text[INET6_ADDRSTRLEN] = "-";
  if (endpoint.family == AF_INET || endpoint.family == AF_INET6) {
    inet_ntop(endpoint.family, endpoint.address.data(), text, sizeof text);
  }
  return text;
}

std::string endpoint_text(const wire::Endpoint& endpoint) {
  const char* form = endpoint.family == AF_INET6 ? "[{}]:{}" : "{}:{}";
  return fmt::format(fmt::runtime(form), address_text(endpoint), endpoint.port);
}

}  // namespace shunt::window
