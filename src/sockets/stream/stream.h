// Reading and writing a shunted connection.
//
// Results are >= 0 or -errno; kNotOurs means that the descriptor stopped being this Socket while the
// call began: look it up again. Blocking calls spin for the socket's budget, then sleep on the bell;
// EINTR, SA_RESTART, SO_RCVTIMEO and SO_SNDTIMEO behave as for a kernel socket.
//
// Signal handlers: a handler that interrupts its own thread inside a critical section of the same
// direction finds the lock held by itself. A send from there is put behind the interrupted one
// (up to kDeferredBytes); a receive answers EINTR (EAGAIN if non-blocking).
// Thread safety: any number of threads.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// SHUT_RD, SHUT_WR, SHUT_RDWR.
Outcome shutdown_stream(int fd, Socket* socket, int how);
// What poll would say: POLLIN, POLLOUT, ... `wanted` saves the look at the writer when no POLLOUT.
std::uint32_t stream_events(Socket* socket, std::uint32_t wanted);
// A quick look whether stream_events could have changed: positions only, no locks.
std::uint64_t bytes_available(Socket* socket);
std::uint64_t bytes_unsent(Socket* socket);  // SIOCOUTQ
int take_socket_error(Socket* socket);       // SO_ERROR

}  // namespace shunt::sockets
