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

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

long get_plain_option(int fd, Socket* socket, int level, int name, void* value, socklen_t* length);
long set_plain_option(int fd, Socket* socket, int level, int name, const void* value,
                      socklen_t length);
Outcome plain_ioctl(int fd, Socket* socket, unsigned long request, void* argument);
long shutdown_plain(int fd, Socket* socket, int how);

}  // namespace shunt::sockets
