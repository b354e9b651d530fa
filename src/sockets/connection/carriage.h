// How the bytes of a connection travel.
//
// Thread safety: any thread, without a lock; what is answered may have changed by then, and under tx and rx not.
#pragma once

#include "sockets/connection/connection.h"

namespace shunt::sockets {

// The peer has begun a downgrade and we have not followed yet.
inline bool follow_due(const Connection* c) {
  return c->follow_due.load(std::memory_order_acquire);
}
// The rings carry nothing any more; send and receive go through the functions below.
inline bool downgraded(const Connection* c) {
  return c->downgrade.load(std::memory_order_acquire) != Downgrade::kNone;
}
// Either of the two; the hot path's only look. (Both come with `trouble`, which it reads anyway.)
inline bool leaves_rings(const Connection* c) {
  return c->trouble.load(std::memory_order_acquire) && (follow_due(c) || downgraded(c));
}

}  // namespace shunt::sockets
