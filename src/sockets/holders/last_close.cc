#include "sockets/holders/last_close.h"

#include <poll.h>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/peer_place.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"

namespace shunt::sockets {
namespace {

// Before the last close in this process: tells the peer so without the kernel's help, and resets if
// SO_LINGER 0 says so. The kernel's end of file on the bell rings.
void announce_close(Socket* s) {
  Connection* c = s->connection;
  if (c->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (off_rings(c)) return;  // the kernel says it
  std::uint16_t flags = layout::kFlagFin | layout::kFlagClosed;
  if (c->linger_seconds == 0) flags |= layout::kFlagReset;
  c->write_end().set_flags(flags);
}

}  // namespace

Connection* connection_of(const Socket* s) {
  return s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection
             ? s->connection
             : nullptr;
}

void announce_if_last(Socket* s, std::uint32_t pins) {
  if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
  if (s->refs.load(std::memory_order_acquire) == 1 + pins) announce_close(s);
}

void finish_sending(int fd, Socket* s, std::uint32_t pins, std::int64_t deadline) {
  if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
  if (s->refs.load(std::memory_order_acquire) != 1 + pins) return;
  if (s->connection->peer.load(std::memory_order_acquire) == nullptr) look_at_bell(fd, s);
  absorb_events(s->connection);
  follow_downgrade(fd, s);
  if (!off_rings(s->connection)) return;
  if (deadline == 0) {
    const bool waits = !s->connection->nonblocking.load(std::memory_order_relaxed);
    deadline = sys::monotonic_ns() + (waits ? kClosePatienceNs : kClosePatienceNs / 10);
  }
  send_rest_before_close(fd, s, deadline);
}

Leave::Leave(int fd, const Socket* s, std::uint32_t pins, const Still& /*still*/) {
  const bool last = s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection &&
                    s->refs.load(std::memory_order_acquire) == 1 + pins &&
                    s->connection->holders.load(std::memory_order_acquire) == 1;
  if (!last || s->connection->relayed || off_rings(s->connection)) return;
  const layout::Area* peer = s->connection->peer.load(std::memory_order_acquire);
  line_ = &s->connection->own->switch_line;
  line_->plain.store(layout::kLeaving, std::memory_order_seq_cst);
  ring::full_fence();  // announce before looking; pairs with begin() of downgrade.cc
  if (peer != nullptr) {
    allowed_ = Untrusted(peer->switch_line.plain).copy_acquire() != layout::kPlain;
    if (!allowed_) peer_leaves(s->connection);
  } else if (!s->connection->gone_noticed.load(std::memory_order_relaxed)) {
    // CONNECTED may have come, and more behind it. If it has not, the peer will see that we leave.
    pollfd p{fd, POLLIN, 0};
    const timespec now{0, 0};
    allowed_ = !has_answered(s->connection) && sys::ppoll(&p, 1, &now, nullptr) != 1;
  }
}

void Leave::undo() {
  if (line_ != nullptr) line_->plain.store(layout::kCarrying, std::memory_order_release);
}

}  // namespace shunt::sockets
