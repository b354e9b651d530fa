#include "sockets/connection/carriage.h"

#include <cassert>

#include "base/trace.h"

namespace shunt::sockets {

bool apply(Connection* c, conn::CarriageEvent event) {
  conn::Carriage now = c->carriage.load(std::memory_order_relaxed);
  for (;;) {
    const conn::Carriage next = conn::after(now, event);
    if (next == now) return false;
    // Release: who sees the new state sees what was prepared for it. Pairs with carriage().
    if (c->carriage.compare_exchange_weak(now, next, std::memory_order_acq_rel,
                                          std::memory_order_relaxed)) {
      SHUNT_TRACE(carriage, c, now, next);
      return true;
    }
  }
}

void connected(Connection* c, const ring::PeerArea& peer) {
  assert(peer.control != nullptr);
  c->peer_segments = peer.segments;
  // Release: whoever sees the pointer sees the generation of the area, and its segments.
  c->peer.store(peer.control, std::memory_order_release);
  apply(c, conn::CarriageEvent::kConnected);
}

}  // namespace shunt::sockets
