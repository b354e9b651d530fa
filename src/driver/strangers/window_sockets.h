// The sockets that a driver binds in the window's directory.
//
// Only the holder of the section's lock calls these, so whatever has the name is left over from a
// driver that was killed, and is replaced. Thread safety: none needed. Errors: WindowError.
#pragma once

#include <string_view>

#include "window/backing.h"
#include "window/unique_fd.h"

namespace shunt::driver {

// `.driver`: SOCK_SEQPACKET, listening; any local program may connect (mode 0666).
window::UniqueFd bind_driver_socket(const window::Backing& backing, std::string_view partition);
// `.peer`: SOCK_DGRAM with SO_PASSCRED; only the window's owner and root may send (mode 0600).
window::UniqueFd bind_peer_socket(const window::Backing& backing, std::string_view partition);

void remove_sockets(const window::Backing& backing, std::string_view partition);

}  // namespace shunt::driver
