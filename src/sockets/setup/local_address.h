// Which addresses are this network namespace's own, as its kernel routes.
//
// Asked through a UDP socket that is connected and sends nothing. Not by binding one, which succeeds for any address
// where net.ipv4.ip_nonlocal_bind is set; not over netlink, which a sandbox may forbid to a program that has TCP.
//
// Thread safety and signal safety: yes, no state; opens and closes one descriptor. Always of the calling thread's
// network namespace. errno untouched.
#pragma once

#include "wire/endpoint.h"

namespace shunt::sockets {

// The address that the kernel would send from; its port is 0. False: there is no route.
bool source_towards(const wire::Endpoint& destination, wire::Endpoint* source);

// Whether a connection to the address stays in this network namespace. Loopback addresses cost no system call.
// A link-local IPv6 address never does: the interface that it belongs to is not in an Endpoint.
bool is_local(const wire::Endpoint& address);

}  // namespace shunt::sockets
