// Who owns the kernel TCP listener that would get a connection to an address?
//
// One exact-match request to the kernel's socket diagnostics (NETLINK_SOCK_DIAG); the kernel picks
// the listener as it would for a SYN, wildcards and dual-stack listeners included. Needs no
// privilege; answers for the network namespace of the calling thread.
//
// Thread safety and signal safety: yes, no state; opens and closes one descriptor. errno untouched.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace shunt::sys {

// `family`: AF_INET (4 address bytes) or AF_INET6 (16), network order; `port`: host byte order.
// ENOENT: nothing listens there. EPROTONOSUPPORT: this kernel has no diagnostics for TCP sockets.
// Others as from socket(), send() and recv().
Result<std::uint32_t> tcp_listener_uid(int family, const std::uint8_t* address, std::uint16_t port);

}  // namespace shunt::sys
