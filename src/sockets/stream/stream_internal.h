// What sends and splices share: the wait for room.
#pragma once

#include <cstdint>

#include "sockets/bell/sleep.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// Spins, then sleeps until there may be room, or nothing to wait for any more; results as of
// sleep_on_bell. No lock held, the socket pinned.
long wait_writable(int fd, Socket* socket, std::int64_t deadline_ns, VainWakes& vain);

}  // namespace shunt::sockets
