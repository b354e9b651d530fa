// Data calls on a plain socket (sockets/holders/adopt.h): libc's, with the few answers in which AF_UNIX differs from
// TCP put right. Cancellation points and restarts are libc's own.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "preload/call.h"

namespace shunt::preload {

inline sockets::Socket* plain_at(int fd) { return of_kind(fd, sockets::Kind::kPlain); }

// Results as of the call, or -errno; errno is untouched.
long receive_plain(int fd, sockets::Socket* socket, const iovec* parts, size_t count, int flags);
long send_plain(int fd, const iovec* parts, size_t count, int flags);

// read() and its like need no help, unless the program has shut the receiving half down. kPassOn then.
sockets::Outcome receive_if_shut(int fd, const iovec* parts, size_t count);

}  // namespace shunt::preload
