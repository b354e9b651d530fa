// ioctl() on a shunted connection.
//
// Results are 0 or -errno. Thread safety: any thread.
#pragma once

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// FIONREAD, SIOCOUTQ, SIOCATMARK, FIONBIO (also tells the bell), FIOASYNC... -ENOTTY as TCP would.
// Returns kPassOn for requests that the bell's own answer serves (FIOCLEX, FIONCLEX, ...).
Outcome connection_ioctl(int fd, Socket* socket, unsigned long request, void* argument);

}  // namespace shunt::sockets
