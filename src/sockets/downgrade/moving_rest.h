// The calls on a connection that is downgraded (downgrade.h) while the rings' last bytes are still to be moved.
//
// Thread safety: any thread; with no lock held. Results: >= 0, -errno or kNotOurs: it is Kind::kPlain now, look the
// descriptor up again.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// `done`: bytes of `parts` that the rings took before; they are part of the result.
Outcome send_with_rest(int fd, Socket* socket, const iovec* parts, std::size_t count,
                       std::size_t done, int flags);
Outcome receive_with_rest(int fd, Socket* socket, const iovec* parts, std::size_t count, int flags);
Outcome shutdown_with_rest(int fd, Socket* socket, int how);
// What poll would say, and what the kernel is to be asked to watch the bell for meanwhile.
std::uint32_t events_with_rest(int fd, Socket* socket, std::uint32_t wanted);
std::uint32_t kernel_events_with_rest(Socket* socket, std::uint32_t wanted);
std::uint64_t available_with_rest(Socket* socket);
std::uint64_t unsent_with_rest(Socket* socket);
// Before the last close in this process, or its exit: what was accepted from the program is still sent.
// Until `deadline` (monotonic ns).
void send_rest_before_close(int fd, Socket* socket, std::int64_t deadline);

}  // namespace shunt::sockets
