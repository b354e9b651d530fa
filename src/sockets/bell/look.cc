#include "sockets/bell/look.h"

#include <cassert>
#include <cerrno>
#include <cstring>

#include "base/untrusted.h"
#include "ring/current.h"
#include "sockets/connection/areas.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/peer_place.h"
#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

using conn::CarriageEvent;
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint64_t kGlanceEveryUs = 1000;
// So often does a drain read. An honest peer has far fewer rings on the bell: one for each epoch, and the few
// dozen that epoll waits leave there.
constexpr int kDrainReads = 16;

void note_gone(Connection* c) {
  c->gone_noticed.store(true, std::memory_order_release);
  c->trouble.store(true, std::memory_order_release);
}

// Of a relayed connection: how the other side ended, as the own driver says.
std::uint32_t fate_of(const Connection* c) {
  const layout::Area* own = c->own;
  return own != nullptr ? Untrusted(own->fate_line.fate).copy_acquire() : layout::kFateReset;
}

// What a CONNECTED says of the peer's area, mapped and checked. `control` null: it is not what it should be.
ring::PeerArea take_peer(Connection* c, const wire::Message& m, int fd) {
  if (m.area.object != wire::kObjectPlace) {
    const layout::Area* whole =
        fd >= 0 ? map_peer(fd, m.area, m.generation, c->map_bytes, c->reserved) : nullptr;
    if (fd >= 0 && whole == nullptr) c->reserved = nullptr;
    return whole;
  }
  if (c->own_place.arena == nullptr) return nullptr;
  return answered_place(c, m, fd);
}

// It says that it answers, and its area is none.
void refuse_answer(Connection* c) {
  note_gone(c);
  count_untrusted_reset();
}

// The descriptor that came with CONNECTED, which stays on the bell. False: there is no room for it now.
bool peek_descriptor(int fd, int* area_fd) {
  wire::MessageBytes bytes;
  for (;;) {
    int count = 0;
    bool truncated = false;
    const long n = sys::recv_fds(fd, bytes.data(), bytes.size(), area_fd, 1, &count,
                                 MSG_DONTWAIT | MSG_PEEK, &truncated);
    if (n < 0) return false;
    if (count == 1) return true;
    *area_fd = -1;
    if (!truncated) return true;  // none was sent
    if (!spare_descriptor()) return false;
  }
}

// The first message on a connecting side's bell; `keep`: leave it there, for others who sleep until
// the bell is readable. With c->bell held.
void take_connected(int fd, Connection* c, bool keep) {
  assert(c->bell.held_by_me());
  if (find_answer(c)) return;
  wire::MessageBytes bytes;
  const long n = sys::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_PEEK);
  if (n == -EAGAIN || n == -EINTR) {
    if (has_answered(c) && !find_answer(c)) refuse_answer(c);
    return;
  }
  // No message but rings, or the end: it has answered since we looked, and rung, or has closed already.
  if (find_answer(c)) return;
  ring::PeerArea peer = nullptr;
  if (n == static_cast<long>(bytes.size())) {
    const Result<wire::Message> m = wire::decode(bytes.data(), bytes.size());
    const bool of_this_kind =
        m.ok() && (m.value().area.object == wire::kObjectWindow) == c->relayed;
    if (of_this_kind && m.value().type == wire::MessageType::kConnected) {
      int area_fd = -1;
      if (!peek_descriptor(fd, &area_fd)) return;
      peer = take_peer(c, m.value(), area_fd);
      c->reader.generation = m.value().generation;
      if (!keep) sys::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (area_fd >= 0) sys::close_received(area_fd);
    }
  }
  if (peer.control != nullptr) {
    connected(c, peer);
    c->bell_state.connected_left = keep;
    if (!c->trusts_peer) refuse_descriptors(fd);
  } else {
    note_gone(c);  // closed before it was accepted, or nonsense: reset either way
    if (n > 0) count_untrusted_reset();
  }
}

// False: it was lost before, or travels without the peer's memory. With state_lock held.
bool lose_locked(Connection* c) {
  assert(c->state_lock.held_by_me());
  if (!apply(c, CarriageEvent::kUntrusted)) return false;
  conn::on_lost(c->state);
  c->trouble.store(true, std::memory_order_release);
  // So that an honest peer behind damaged memory learns of it too.
  c->own->hot.flags.fetch_or(layout::kFlagReset, std::memory_order_release);
  return true;
}

bool lose(Connection* c) {
  Hold hold(c->state_lock);
  return lose_locked(c);
}

// Plain bytes follow the mark: keep what was read of them for follow_downgrade(). With c->bell held.
bool find_mark(Connection* c, const std::uint8_t* bytes, std::size_t size) {
  assert(c->bell.held_by_me());
  const std::uint8_t* mark = bytes;
  while (mark != bytes + size && *mark == wire::kRing) ++mark;
  if (mark == bytes + size || *mark != wire::kPlainMark || c->relayed) return false;
  const std::size_t kept = size - static_cast<std::size_t>(mark - bytes);
  std::memcpy(c->bell_state.stash, mark, kept);
  c->bell_state.stash_begin = 0;
  c->bell_state.stash_end = static_cast<std::uint32_t>(kept);
  apply(c, CarriageEvent::kPeerLeft);
  return true;
}

}  // namespace

bool hung_up(int fd) {
  pollfd p{fd, 0, 0};
  const timespec now{0, 0};
  return sys::ppoll(&p, 1, &now, nullptr) == 1 && (p.revents & POLLHUP) != 0;
}

void refuse_descriptors(int bell) {
  constexpr int kPassRights = 83;  // SO_PASSRIGHTS; unknown to older kernels, which answer an error
  const int no = 0;
  sys::setsockopt(bell, SOL_SOCKET, kPassRights, &no, sizeof no);
}

void note_if_gone(int fd, Connection* c) {
  pollfd p{fd, POLLIN | POLLRDHUP, 0};
  const timespec now{0, 0};
  if (sys::ppoll(&p, 1, &now, nullptr) != 1) return;
  const bool told = c->relayed && (p.revents & POLLRDHUP) != 0 && fate_of(c) != layout::kFateOpen;
  if ((p.revents & POLLHUP) != 0 || told) note_gone(c);
}

void peer_leaves(Connection* c) {
  if (c->relayed) {
    reset_untrusted(c);
    return;
  }
  apply(c, CarriageEvent::kPeerLeft);
}

void drain(int fd, Socket* socket, bool others_sleep) {
  Connection* c = socket->connection;
  assert(c->bell.held_by_me());
  if (leaves_rings(c)) return;  // what is on the bell now is the mark, or the stream
  if (c->peer.load(kRelaxed) == nullptr) {
    if (c->gone_noticed.load(kRelaxed) && !has_answered(c)) return;
    take_connected(fd, c, others_sleep);
    if (c->peer.load(kRelaxed) == nullptr) return;
    if (!others_sleep && epolls_rely_on(c)) note_missed(socket);
    // Nobody was told to ring yet.
    if (!c->bell_state.maybe_rung.load(kRelaxed)) return;
  }
  if (others_sleep) {
    c->bell_state.maybe_rung.store(true, std::memory_order_seq_cst);
    return;
  }
  // What lies behind the mark may be for another holder of the bell: follow_downgrade() reads exactly.
  const std::uint32_t plain = Untrusted(c->peer.load(kRelaxed)->switch_line.plain).copy_acquire();
  if (plain == layout::kPlain || (plain != layout::kCarrying && c->relayed)) {
    peer_leaves(c);
    return;
  }
  if (plain == layout::kSwitching) {
    note_if_gone(fd, c);  // killed in the middle of it, perhaps
    return;
  }
  // Before reading: an epoch announced from here on may be rung for after our read.
  c->bell_state.maybe_rung.store(false, std::memory_order_seq_cst);
  std::uint8_t rings[256];
  static_assert(sizeof rings <= kStashBytes);
  for (int reads = 0; reads < kDrainReads; ++reads) {
    const long n = sys::recv(fd, rings, sizeof rings, MSG_DONTWAIT);
    if (n > 0) c->bell_state.connected_left = false;  // it came first
    if (n > 0 && epolls_rely_on(c)) note_missed(socket);
    if (n > 0 && find_mark(c, rings, static_cast<std::size_t>(n))) return;
    if (n == static_cast<long>(sizeof rings)) continue;
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) note_if_gone(fd, c);
    return;
  }
  // A flood: the rest is left for the next look, or whoever rings without end would keep us here. Whoever is about to
  // sleep has to drain again, as if an epoch had been announced:
  //   we: maybe_rung = false, read, stop here        peer: rings go on, the bell is never empty
  //   we: enter_sleep() drains, arm_*() announces    peer: publishes, sees the new epoch, its ring finds no room
  //   we: sleep, level-triggered, on a bell with bytes: awake at once, and the look at `head` finds what was published
  // So none of ours sleeps over a ring that lies behind the flood.
  c->bell_state.maybe_rung.store(true, std::memory_order_seq_cst);
}

void look_at_bell(int fd, Socket* socket, bool hang_up) {
  Connection* c = socket->connection;
  Hold hold(c->bell);
  if (!hold.owns()) return;
  if (!still_under(fd, socket, c)) {
    // An epoll registration outlives its number while a duplicate of it is open.
    fd = next_descriptor(socket, 0, -1);
    if (fd < 0 || !still_under(fd, socket, c)) return;
  }
  const bool others_sleep = c->bell_state.sleepers.load(kRelaxed) != 0;
  if (c->peer.load(kRelaxed) == nullptr || !others_sleep) {
    drain(fd, socket, others_sleep);
    if (!hang_up) return;
  }
  // Others sleep on the rings, or rings may have hidden the end: look for just that.
  note_if_gone(fd, c);
}

bool glance(int fd, Socket* socket) {
  Connection* c = socket->connection;
  assert(c->tx.held_by_me() || c->rx.held_by_me());
  const std::uint64_t now = ticks();
  if (now < socket->next_glance.load(kRelaxed)) return false;
  socket->next_glance.store(now + kGlanceEveryUs * ticks_per_us, kRelaxed);
  // Without an area the bell may hold CONNECTED, and bytes behind it: look_at_bell() decides.
  if (c->peer.load(kRelaxed) == nullptr || c->gone_noticed.load(kRelaxed)) return false;
  note_if_gone(fd, c);
  return c->gone_noticed.load(kRelaxed);
}

void absorb_events(Connection* c) {
  Hold hold(c->state_lock);
  const layout::Area* peer = c->peer.load(std::memory_order_acquire);
  std::uint16_t flags = 0;
  std::uint64_t tail = 0;
  const bool gone = c->gone_noticed.load(std::memory_order_acquire);
  // Not as one that was never accepted: what it has left is read first. The next look at the bell finds its area.
  if (gone && peer == nullptr && answered_well(c)) return;
  if (peer != nullptr && !lost(c)) {
    flags = Untrusted(peer->hot.flags).copy_acquire() & layout::kKnownFlags;
    tail = Untrusted(peer->tail.tail).copy_acquire();
    const bool foreign = !ring::still_current(peer, c->reader.generation);
    if (foreign || (c->relayed && (flags & layout::kFlagPlain) != 0)) {
      if (lose_locked(c)) count_untrusted_reset();
      return;
    }
  }
  if (gone && c->relayed && fate_of(c) != layout::kFatePeerClosed) {
    // The other partition, or a driver, has gone: the area may be another's soon, and what it says of an end is
    // not to be trusted.
    lose_locked(c);
    return;
  }
  if ((flags & layout::kFlagReset) != 0) conn::on_reset(c->state);
  if ((flags & layout::kFlagPlain) != 0 && !off_rings(c)) {
    // What the peer says and does from here on, it does over the bell.
    apply(c, CarriageEvent::kPeerLeft);
    return;
  }
  if (gone || (flags & layout::kFlagClosed) != 0) {
    // Never accepted (no area): TCP resets such a connection too.
    const bool left_unread = peer == nullptr || tail != c->own->hot.head.load(kRelaxed);
    conn::on_peer_gone(c->state, left_unread);
  } else if ((flags & layout::kFlagFin) != 0) {
    conn::on_peer_finished(c->state);
  }
  if (flags != 0 || gone) c->trouble.store(true, std::memory_order_release);
}

void reset_broken(Connection* c) { lose(c); }

void reset_untrusted(Connection* c) {
  if (lose(c)) count_untrusted_reset();
}

}  // namespace shunt::sockets
