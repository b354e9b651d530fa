// Which addresses are this network namespace's own, as its kernel routes.
//
// Asked through a UDP socket that is connected and sends nothing. Not by binding one, which succeeds for any address
// where net.ipv4.ip_nonlocal_bind is set; not over netlink, which a sandbox may forbid to a program that has TCP.
//
// Thread safety and signal safety: yes, no state; opens and closes one descriptor. Always of the calling thread's
// network namespace. errno untouched.
#pragma once

#include <cstdint>

#include "wire/endpoint.h"

namespace shunt::sockets {

// The address that the kernel would send from. `interface`: the index that a link-local IPv6 address needs; else 0.
// Its port is 0. False: there is no route.
bool source_towards(const wire::Endpoint& destination, std::uint32_t interface,
                    wire::Endpoint* source);

// Whether a connection to the address stays in this network namespace. Loopback addresses cost no system call.
bool is_local(const wire::Endpoint& address, std::uint32_t interface);

// The interface that a socket address names; 0: none.
std::uint32_t interface_of(const sockaddr* address, socklen_t length);

}  // namespace shunt::sockets
