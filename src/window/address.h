// IP addresses as people write them.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>

#include "wire/endpoint.h"

namespace shunt::window {

// "10.77.0.1" or "fd00::1"; IPv4-mapped IPv6 is folded to IPv4. nullopt: not an IP address.
std::optional<wire::Endpoint> parse_address(const std::string& text);

std::string address_text(const wire::Endpoint& endpoint);   // 10.77.0.1, fd00::1; "-" for none
std::string endpoint_text(const wire::Endpoint& endpoint);  // 10.77.0.1:80, [fd00::1]:80

}  // namespace shunt::window
