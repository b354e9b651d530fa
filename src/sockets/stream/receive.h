// Receiving on a shunted connection: see stream.h for what all calls have in common.
//
// Signal handlers: a receive in a handler that interrupts its own thread inside a receive answers EINTR (EAGAIN if
// non-blocking).
// Thread safety: any number of threads.
#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// `flags`: MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_TRUNC (TCP: discard), MSG_CMSG_CLOEXEC.
Outcome receive_stream(int fd, Socket* socket, const iovec* parts, std::size_t count, int flags);

}  // namespace shunt::sockets
