// The local port of a connection that goes straight to a listener of this network namespace.
//
// The kernel knows of it by a TCP socket that is bound to it and does nothing else:
//
//   the program's own   where the program has called bind()
//   the place's         the first connection in a place of an arena (arenas/arena.h) binds the program's socket, and the
//                       place keeps it. A place is given to the next connection when the listener's side has closed the
//                       last one, so no two live connections have one source and destination.
//
// A place holds its socket by a mapping of it and by no descriptor. Where the listener's side has to be shown the socket
// (it is another user's, or the port is one of the first 1024), it is held by a descriptor.
//
// Thread safety: any thread; the place is the caller's. Errors: false.
#pragma once

#include "sockets/arenas/arena.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

inline constexpr std::uint16_t kFirstUnprivileged = 1024;

struct SourcePort {
  wire::Endpoint source;
  bool by_program = false;  // the program's socket has to be kept
  int proof = -1;           // the socket, to be shown; not the caller's
  bool fresh = false;       // the program's socket has become the place's
  int reuse_address = 0;    // its options until then
  int reuse_port = 0;
};

// `fd`: the program's socket. `natural`: the address that it gets without bind(). `shown`: to another user. False: no
// port can be had, or the program's socket is bound to an address of another family.
bool source_port(int fd, const Socket* socket, const wire::Endpoint& natural, const PlaceRef& place,
                 bool shown, SourcePort* out);

// By way of the driver: the program's own socket, bound to `natural` unless the program did that. False as above.
bool reserve_port(int fd, const Socket* socket, const wire::Endpoint& natural,
                  wire::Endpoint* source);

// The connection is not made after all: the program keeps its socket.
void give_port_back(int fd, const PlaceRef& place, const SourcePort& port);

// The program may bind one port to several sockets (SO_REUSEADDR), and connect each to another destination. To the same
// one the kernel says EADDRNOTAVAIL. A name of the bell says which source and destination are taken, in this network
// namespace and as long as the bell lives. False: they are.
bool claim(int bell, const wire::Endpoint& source, const wire::Endpoint& destination);

}  // namespace shunt::sockets
