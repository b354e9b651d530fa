// Sending on a shunted connection: see stream.h for what all calls have in common.
//
// Signal handlers: a handler that interrupts its own thread inside a send finds the lock held by itself. A send from
// there is put behind the interrupted one (up to kDeferredBytes).
// Thread safety: any number of threads.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "sockets/bell/sleep.h"
#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// `flags`: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE, MSG_CONFIRM and MSG_EOR have TCP's meaning; the
// caller raises SIGPIPE for -EPIPE without MSG_NOSIGNAL. Others: -EOPNOTSUPP.
Outcome send_stream(int fd, Socket* socket, const iovec* parts, std::size_t count, int flags);

// Spins, then sleeps until there may be room, or nothing to wait for any more; results as of
// sleep_on_bell. No lock held, the socket pinned.
long wait_writable(int fd, Socket* socket, std::int64_t deadline_ns, VainWakes& vain);

}  // namespace shunt::sockets
