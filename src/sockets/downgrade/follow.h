// The second end of a downgrade (downgrade.h): it finds the mark on its bell, and goes on behind it.
//
// Thread safety: any thread; takes tx, rx and bell.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// The peer began: do the second end's part. With no lock held; fd may be -1. Cheap when there is nothing to do. The
// caller is not counted as a sleeper. False: not now, this thread is inside one of the connection's locks (a signal
// handler asks).
bool follow_downgrade(int fd, Socket* socket);

}  // namespace shunt::sockets
