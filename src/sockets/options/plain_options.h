// The calls on a plain socket (holders/adopt.h) in which an AF_UNIX socket differs from a TCP one.
//
// Time-outs, SO_RCVLOWAT and errors are the kernel socket's, so that all holders share them, as they share a
// TCP socket's; whatever AF_UNIX does not know is kept in the Connection page, as for shunted connections.
// Differences that stay: SO_LINGER 0 does not reset at close; after SHUT_RD poll shows nothing, and a thread
// that sleeps in a receive already goes on sleeping.
//
// Results are 0 or -errno; kPassOn: the kernel's own answer is TCP's. Thread safety: any thread.
#pragma once

#include <sys/socket.h>

#include "sockets/process/socket.h"

namespace shunt::sockets {

long get_plain_option(int fd, Socket* socket, int level, int name, void* value, socklen_t* length);
long set_plain_option(int fd, Socket* socket, int level, int name, const void* value,
                      socklen_t length);
long plain_ioctl(int fd, Socket* socket, unsigned long request, void* argument);
long shutdown_plain(int fd, Socket* socket, int how);

// As a TCP socket in state CLOSE: reset, or ended by both sides. getpeername fails with ENOTCONN.
bool plain_disconnected(int fd, Socket* socket);
// The kernel has answered a data call with ECONNRESET: it will not say so again.
void note_plain_reset(Socket* socket);
// The program has shut its receiving half down; the kernel does not know (see shutdown_plain()).
inline bool plain_read_shut(const Socket* socket) { return socket->connection->state.read_shut; }

// enum in include/net/tcp_states.h, for TCP_INFO.
std::uint8_t plain_tcp_state(int fd, Socket* socket);

}  // namespace shunt::sockets
