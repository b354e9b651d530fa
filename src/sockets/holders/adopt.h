// Plain sockets: connections that were downgraded (downgrade.h), as the program sees them.
//
// The kernel's AF_UNIX stream at the descriptor moves the bytes; what the program must not notice is that it
// is AF_UNIX: names, options and a few flags are still answered here, from the Connection page.
//
// Thread safety: any thread.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// `fd` has just come into this process. A labelled socket becomes Kind::kPlain; anything else is left alone.
void adopt_plain(int fd);
// When the library is loaded: what exec() has left open.
void adopt_inherited();

}  // namespace shunt::sockets
