// connect(): the switch. Shared memory if somebody under Shunt listens there, else kernel TCP.
//
// In order: a rendezvous in this network namespace, for an address that is local here (rendezvous.h says
// who is believed); the window's other partitions, by way of the own driver; kernel TCP. The local port is
// the kernel's as long as the connection lives: port.h says by which socket; by way of the driver it is the program's
// own, which stays bound, out of sight.
//
// As with TCP, connect() succeeds when the request is in the listener's backlog; accept() may come
// later, and bytes may be sent before.
// One thread connects a socket at a time, and no lock that other calls need is held while it waits: another
// thread's connect() gets EALREADY if the socket is non-blocking, else it waits for the outcome and shares it.
// Thread safety: any thread. Errors: negative errno.
#pragma once

#include <sys/socket.h>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// For Kind::kTcp, kConnection and kPlain. 0 or -EINPROGRESS: done over shared memory. kPassOn: let the
// kernel connect, then tell connected_by_kernel(); socket->reason says why.
Outcome connect_socket(int fd, Socket* socket, const sockaddr* address, socklen_t length);
void connected_by_kernel(int fd, Socket* socket);

}  // namespace shunt::sockets
