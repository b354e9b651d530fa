// The accepting side's half of the set-up: CONNECT in, CONNECTED out.
//
// Nothing in a CONNECT is believed: the area must be a sealed memory object of the right size and header (or, from the
// driver of a window on a device, a range of it, and there is one for us too). The source address comes from the
// kernel (the TCP socket that the other side passes, bound in this very network namespace to an address of its own), or
// from this partition's driver (the window's owner, or root). Who is root, or this very user and claims no privileged
// port, need not show the socket: he could do with this process what he likes.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// `bell`: accepted from the rendezvous, non-blocking. The program's new descriptor (in the table, a
// connection), -EAGAIN: the CONNECT has not come yet, keep `bell`; -EMFILE, -ENOMEM: it is there, but descriptors or
// memory are not: keep `bell` for later; other -errno: `bell` is closed.
// `flags`: SOCK_NONBLOCK, SOCK_CLOEXEC for the new descriptor. `relocate`: `bell` was put aside at a
// high number; the program gets the lowest free one. With the listener's lock held.
long finish_handshake(int bell, int listener_fd, Socket* listener, int flags, bool relocate);

}  // namespace shunt::sockets
