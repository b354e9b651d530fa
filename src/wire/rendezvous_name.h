// The abstract AF_UNIX name under which a listener's provider waits for connections.
//
// Derived from what the TCP listener is bound to, so that both sides compute it alone. The kernel
// scopes abstract names to the network namespace, as it does TCP ports. The layout and wire versions
// are part of the name: two versions of Shunt never meet, they use kernel TCP with each other.
#pragma once

#include <sys/un.h>

#include <cstdint>

#include "wire/endpoint.h"

namespace shunt::wire {

struct UnixName {
  sockaddr_un address;
  socklen_t length;
};

// The name for a listener bound to `local`. `dual_stack`: an IPv6 wildcard that takes IPv4 too.
UnixName rendezvous_name(const Endpoint& local, bool dual_stack);

// The names to try for a destination, most specific first, as the kernel matches listeners:
// the address itself, the family's wildcard, the dual-stack wildcard. Returns how many (at most 3).
int rendezvous_candidates(const Endpoint& destination, UnixName out[3]);

// The name of a bell whose source port the program has chosen itself: two live connections cannot have one.
UnixName connection_name(const Endpoint& source, const Endpoint& destination);

// Whether a listener bound to `local` would be asked for `destination`.
bool rendezvous_matches(const Endpoint& local, bool dual_stack, const Endpoint& destination);

}  // namespace shunt::wire
