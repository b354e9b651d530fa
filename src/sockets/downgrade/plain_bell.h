// A bell that carries plain bytes: what both ends of a downgrade do to it, and what of the rings is still to be moved.
//
// Thread safety: the locks that each function names are held.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "sockets/connection/carriage.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

inline std::size_t stashed(const Connection* c) {
  return c->bell_state.stash_end - c->bell_state.stash_begin;
}
// Bytes of the rest that are still to be given to the program. With rx held.
inline std::uint64_t unread_rest(Connection* c) {
  assert(c->rx.held_by_me());
  return (c->own != nullptr ? c->read_end().available() : 0) + stashed(c);
}
// Bytes of the rest that are still to be sent over the bell. With tx held.
inline std::uint64_t unsent_rest(const Connection* c) {
  assert(c->tx.held_by_me());
  return c->writer.head - c->rest_sent;
}

inline constexpr std::size_t kMarkBytes = 16;  // mark, 7 zeros, position (little-endian)
inline constexpr int kMostReads = 4096;        // of the bell, in one go

// The kernel's socket takes over what the program asked of the connection.
void prepare_bell(int fd, const Socket* s);
// From here on the own area says nothing new. With all three locks held.
void publish_plain(int fd, Connection* c);
// Nothing but rings can be on it. False: the other end is gone.
bool read_empty(int fd);

// Sends of the rest what the bell takes without waiting. 0, or -errno when nobody will read it. With tx held.
long send_rest(int fd, Connection* c);
// Kind::kPlain when no rest is left. True: it is. With no lock held.
bool settle(Socket* socket);

}  // namespace shunt::sockets
