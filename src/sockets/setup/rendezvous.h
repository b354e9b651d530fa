// Finding who listens under Shunt at an address of this network namespace.
//
// Anybody may bind an abstract name. So only names of local addresses are asked, and who is found there is believed
// only if he is root, this user, or the owner of the kernel's TCP listener at that address and port.
//
// Thread safety: any thread; no state.
#pragma once

#include "sockets/arenas/links.h"
#include "wire/endpoint.h"
#include "wire/reason.h"

namespace shunt::sockets {

// A cancellation point. A bell whose other end waits in a listener's backlog; -1 with *reason: none here.
// Where a backlog is full it waits as the program's socket `fd` does (`nonblocking`, SO_SNDTIMEO), and only for
// somebody who is believed. -EINTR: interrupted in that. *listener: who that is.
int find_rendezvous(int fd, const wire::Endpoint& destination, bool nonblocking, LinkKey* listener,
                    wire::Reason* reason);

}  // namespace shunt::sockets
