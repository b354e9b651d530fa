// The end of a connection whose other end is gone, and that another program is to hold.
//
// Nobody can send over the bell what the peer has left in its area: a fresh socket pair takes the bell's place.
//
// Thread safety: any thread; takes the connection's locks.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// After downgrade() has answered kPeerGone. 0: `fd` is an ordinary byte stream now. -EAGAIN: not now, nothing has
// changed.
long move_to_pair(int fd, Socket* socket);

}  // namespace shunt::sockets
