// How the bytes of a connection travel: conn/carriage.h's table, applied to the one word that all threads and forked
// processes of this end share.
//
// Everything else that tells of it is derived: `plain` of the own SwitchLine and kFlagPlain tell the peer, and
// Kind::kPlain is what this process has made of kPlain.
//
// Thread safety: any thread, without a lock. What is answered may have changed by then, but for this: kRings becomes
// kPlain, and kFollowing kRest, under tx, rx and bell only.
#pragma once

#include "conn/carriage.h"
#include "sockets/connection/connection.h"

namespace shunt::sockets {

// Acquire: whoever sees a state sees what was prepared for it. Pairs with apply().
inline conn::Carriage carriage(const Connection* c) {
  return c->carriage.load(std::memory_order_acquire);
}
// True: this very event has changed it.
bool apply(Connection* connection, conn::CarriageEvent event);
// CONNECTED has come (or is about to be sent): `peer` is mapped.
void connected(Connection* connection, const ring::PeerArea& peer);

// The peer has begun a downgrade and we have not followed yet.
inline bool follow_due(const Connection* c) { return carriage(c) == conn::Carriage::kFollowing; }
// The rings carry nothing any more; send and receive go through downgrade/moving_rest.h.
inline bool off_rings(const Connection* c) { return conn::off_rings(carriage(c)); }
// Either of the two; the hot path's only look.
inline bool leaves_rings(const Connection* c) { return conn::leaves_rings(carriage(c)); }
// The peer's area failed a check: it is never looked at again.
inline bool lost(const Connection* c) { return carriage(c) == conn::Carriage::kLost; }

}  // namespace shunt::sockets
