// Listening and accepting: one socket for the program, two kinds of clients.
//
// listen() keeps the kernel's TCP listener, so ordinary TCP clients work as before, and waits beside
// it for rendezvous. Both, and bells whose CONNECT has not come yet, sit in one hidden epoll instance
// (`Listener::waiter`); poll, select and epoll of the program watch that one.
//
// While it has a rendezvous, the kernel's listener is non-blocking (an accept must never sleep on one
// kind of client while the other waits); F_GETFL and F_SETFL show and set what the program means.
// The flag belongs to the kernel's socket, so another program that comes by it (exec, SCM_RIGHTS) sees it
// too: share_listener() gives it back to the one that the program chose, and accept_socket() copes with
// finding it so. The other program serves the ordinary clients; the rendezvous stays here.
// Thread safety: any thread. Results: >= 0 or -errno.
#pragma once

#include <sys/socket.h>

#include "sockets/process/socket.h"

namespace shunt::sockets {

// After the kernel's listen(fd) succeeded. Without a rendezvous (name taken, SO_REUSEPORT, ...) the
// listener serves ordinary clients and the reason is shown.
void listening(int fd, Socket* socket, int backlog);

// For Kind::kListener: the new descriptor or -errno. `flags`: SOCK_NONBLOCK, SOCK_CLOEXEC.
long accept_socket(int fd, Socket* socket, sockaddr* address, socklen_t* length, int flags);

// Before `fd` gets a holder that is another program.
void share_listener(int fd, Socket* socket);
// Another program is to serve the listener too: programs under Shunt no longer find its rendezvous, in whatever
// process that shares it, and connect by kernel TCP. Those that have connected already are accepted here.
void leave_rendezvous(int fd, Socket* socket);

// shutdown() of a listener: both kinds of clients are refused from then on.
long shutdown_listener(int fd, Socket* socket, int how);

// In the child of a fork: what the parent has set aside half-way through its set-up is the parent's.
void listeners_after_fork();

// Accepted by the kernel on a listener without a rendezvous: counts it.
void accepted_by_kernel(int fd, std::uint16_t family, wire::Reason reason);

}  // namespace shunt::sockets
