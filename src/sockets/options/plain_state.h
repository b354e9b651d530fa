// In which state of TCP a plain socket (holders/adopt.h) is, as far as the kernel's AF_UNIX socket and the Connection
// page can tell.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>

#include "sockets/process/socket.h"

namespace shunt::sockets {

// include/net/tcp_states.h
enum TcpState : std::uint8_t { kEstablished = 1, kFinWait2 = 5, kClose = 7, kCloseWait = 8 };

// As a TCP socket in state CLOSE: reset, or ended by both sides. getpeername fails with ENOTCONN.
bool plain_disconnected(int fd, Socket* socket);
// The kernel has answered a data call with ECONNRESET: it will not say so again.
void note_plain_reset(Socket* socket);
// The program has shut its receiving half down; the kernel does not know (see shutdown_plain()).
inline bool plain_read_shut(const Socket* socket) { return socket->connection->state.read_shut; }

// For TCP_INFO.
std::uint8_t plain_tcp_state(int fd, Socket* socket);

}  // namespace shunt::sockets
