// What downgrade.cc (the protocol) and rest.cc (the calls meanwhile) share.
#pragma once

#include "sockets/downgrade.h"

namespace shunt::sockets {

inline std::size_t stashed(const Connection* c) { return c->stash_end - c->stash_begin; }
// Bytes of the rest that are still to be given to the program. With rx held.
inline std::uint64_t unread_rest(Connection* c) {
  return (c->own != nullptr ? c->read_end().available() : 0) + stashed(c);
}
// Bytes of the rest that are still to be sent over the bell. With tx held.
inline std::uint64_t unsent_rest(const Connection* c) { return c->writer.head - c->rest_sent; }

// Sends of the rest what the bell takes without waiting. 0, or -errno when nobody will read it. With tx held.
long send_rest(int fd, Connection* c);
// Kind::kPlain when no rest is left. True: it is. With no lock held.
bool settle(Socket* socket);

}  // namespace shunt::sockets
