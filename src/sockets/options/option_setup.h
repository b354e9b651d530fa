// Options at the set-up of a connection: what it takes over from a kernel TCP socket.
//
// Thread safety: the thread that sets the connection up; signals are blocked.
#pragma once

#include "sockets/connection/connection.h"

namespace shunt::sockets {

// At set-up: takes over what the program set on its TCP socket (`tcp_fd`, still open) into the
// connection: reads the options that matter back from the kernel and stores those that differ from
// a fresh socket's. Also the time-outs, SO_LINGER, SO_RCVLOWAT and SO_SNDBUF into the fields.
void adopt_options(Connection* connection, int tcp_fd, int family);
// For an accepted connection: what Linux lets it inherit from the listener's TCP socket.
void inherit_options(Connection* connection, int listener_fd, int family);

}  // namespace shunt::sockets
