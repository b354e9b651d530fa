// Socket options of a shunted connection.
//
// Values are kept in Connection::options (common to forked processes, as in the kernel). What a value
// means, how it is rounded and which errors a bad one gives is asked of the kernel: a setting is
// applied to a fresh TCP socket first and read back, a question that was never answered by a setting
// goes to a fresh TCP socket too. Only options with a meaning of their own here are handled by hand:
// SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_RCVTIMEO, SO_SNDTIMEO, SO_LINGER,
// SO_SNDBUF (limit of bytes in flight), SO_RCVBUF, SO_RCVLOWAT, TCP_INFO, TCP_MAXSEG, SO_PEERNAME...
// An option that would have to do something on the wire that shared memory cannot do (SO_ZEROCOPY,
// TCP_ULP, TCP_REPAIR, ...) gets ENOPROTOOPT or EOPNOTSUPP, never a silent success.
//
// Results are 0 or -errno. Thread safety: any thread; options_lock guards the store. Set-up path:
// callers have blocked signals.
#pragma once

#include <sys/socket.h>

#include "sockets/process/socket.h"

namespace shunt::sockets {

long get_connection_option(int fd, Socket* socket, int level, int name, void* value,
                           socklen_t* length);
long set_connection_option(int fd, Socket* socket, int level, int name, const void* value,
                           socklen_t length);

}  // namespace shunt::sockets
