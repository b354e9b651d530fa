// Who owns the kernel TCP listener that would get a connection to an address, and who listens under an
// abstract AF_UNIX name?
//
// Requests to the kernel's socket diagnostics (NETLINK_SOCK_DIAG). For TCP one exact match: the kernel picks
// the listener as it would for a SYN, wildcards and dual-stack listeners included. Needs no
// privilege; answers for the network namespace of the calling thread.
//
// Thread safety and signal safety: yes, no state; opens and closes one descriptor. errno untouched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace shunt::sys {

// `family`: AF_INET (4 address bytes) or AF_INET6 (16), network order; `port`: host byte order.
// ENOENT: nothing listens there. EPROTONOSUPPORT: this kernel has no diagnostics for TCP sockets.
// Others as from socket(), send() and recv().
Result<std::uint32_t> tcp_listener_uid(int family, const std::uint8_t* address, std::uint16_t port);

// The user who made the stream socket that listens under an abstract name (all bytes of sun_path). Nothing is
// connected to it. Takes as long as the namespace has AF_UNIX listeners to be gone through: not for a hot path.
// ENOENT: nobody does. ENOTSUP: this kernel does not tell (before Linux 5.3). Others as above.
Result<std::uint32_t> unix_listener_uid(const char* name, std::size_t size);

}  // namespace shunt::sys
