// Making a connection out of a bell and two areas: what connecting and accepting share.
//
// Thread safety: the caller holds the Socket's lock or is the only owner of the pieces.
#pragma once

#include "layout/status_page.h"
#include "sockets/connection/connection.h"
#include "sockets/process/socket.h"
#include "wire/message.h"

namespace shunt::sockets {

// A connection under construction; whatever is not taken over is given back by discard().
struct Parts {
  Connection* connection = nullptr;
  int area_fd = -1;  // of an own area in a memory object of its own, to send along
  std::uint32_t generation = 0;
};

// The Connection page, and no area yet. False: no memory.
bool make_parts(Parts* parts);
// The own area in a memory object of its own. False: no memory or descriptors.
bool own_object(Parts* parts);
// The own area in a place, which the connection holds from now on.
void own_place(Parts* parts, const PlaceRef& place, std::uint32_t generation);
// The own area that the driver gave. False: it is not what it should be, or no memory. `device` stays the caller's.
bool adopt_range(Parts* parts, int device, const wire::Location& where, std::uint32_t generation);
void discard(Parts* parts);

// The message fields that describe the own area.
wire::Location own_location();
wire::Location place_location(const PlaceRef& place);

// Turns `socket`, under `fd`, into a shunted connection and shows it on the status page.
void install(int fd, Socket* socket, Connection* connection, const char* peer_partition);

// Kernel TCP it is: counts and shows why. For a socket that is connected by the kernel already.
void install_kernel(int fd, Socket* socket, wire::Reason reason, const char* detail);

}  // namespace shunt::sockets
