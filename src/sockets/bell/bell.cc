#include "sockets/bell/bell.h"

#include <cassert>
#include <cerrno>

#include "base/trace.h"
#include "base/untrusted.h"
#include "ring/fence.h"
#include "sockets/bell/look.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kSwitchYields = 100;
constexpr std::uint32_t kSwitchWaits = 200;
constexpr timespec kSwitchPause{0, 50'000};

// One byte, unless the peer is leaving its rings. Answers what the peer's line said.
std::uint32_t try_ring(int fd, Connection* c) {
  layout::SwitchLine& own = c->own->switch_line;
  const layout::Area* peer = c->peer.load(std::memory_order_acquire);
  // Announce, then look (both sequentially consistent): a peer that switches either sees that we are at
  // it, and waits, or we see that it switches. Pairs with downgrade().
  own.ringing.fetch_add(1, std::memory_order_seq_cst);
  ring::full_fence();
  const std::uint32_t plain =
      peer != nullptr ? Untrusted(peer->switch_line.plain).copy_acquire() : layout::kCarrying;
  long r = 0;
  if (plain != layout::kSwitching && plain != layout::kPlain) {
    const std::uint8_t byte = wire::kRing;
    r = sys::send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  own.ringing.fetch_sub(1, std::memory_order_release);
  // A full bell (EAGAIN) rings already.
  if (r < 0 && r != -EAGAIN && r != -EINTR && fd >= 0) note_if_gone(fd, c);
  return plain;
}

// Switching takes the peer some instructions, but it may be off its CPU in between: so the waiting is sleep, after a
// while. One that switches for ever uses up a connection's patience once, not at each ring.
bool wait_for_switch(Connection* c) {
  const std::uint32_t waits = c->switch_waits.fetch_add(1, kRelaxed);
  if (waits < kSwitchYields) {
    sys::sched_yield();
  } else if (waits < kSwitchWaits) {
    sys::raw(SYS_nanosleep, sys::arg(&kSwitchPause), 0);
  } else {
    c->switch_waits.store(kSwitchWaits, kRelaxed);
  }
  return waits < kSwitchWaits;
}

}  // namespace

void ring(int fd, Connection* connection) {
  assert(connection->tx.held_by_me() || connection->rx.held_by_me());
  SHUNT_TRACE(ring, fd, connection);
  count_ring();
  if (connection->relayed) rung_far.store(true, std::memory_order_relaxed);
  std::uint32_t plain = try_ring(fd, connection);
  // Then either it is plain, or it gave up and is to be rung.
  while (plain == layout::kSwitching && !connection->relayed && wait_for_switch(connection)) {
    plain = try_ring(fd, connection);
  }
  if (plain == layout::kPlain || (plain != layout::kCarrying && connection->relayed)) {
    peer_leaves(connection);
  }
}

bool enter_sleep(int fd, Socket* socket, bool force) {
  Connection* c = socket->connection;
  Hold hold(c->bell);
  if (lookup(fd) != socket) return false;
  if (force) c->bell_state.sleepers.store(0, kRelaxed);
  if (c->bell_state.sleepers.load(kRelaxed) == 0 &&
      (c->bell_state.maybe_rung.load(kRelaxed) || c->peer.load(kRelaxed) == nullptr)) {
    drain(fd, socket, false);
  }
  c->bell_state.sleepers.fetch_add(1, std::memory_order_seq_cst);
  count_sleep();
  return true;
}

void leave_sleep(Connection* c) {
  Hold hold(c->bell);
  const std::uint32_t sleepers = c->bell_state.sleepers.load(kRelaxed);
  if (sleepers > 0) c->bell_state.sleepers.store(sleepers - 1, kRelaxed);
}

void arm_read(Connection* c) {
  assert(c->rx.held_by_me());
  c->bell_state.maybe_rung.store(true, std::memory_order_seq_cst);
  c->read_end().begin_wait();
}

void disarm_read(Connection* c) {
  assert(c->rx.held_by_me());
  if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0 &&
      c->read_armed_epolls.load(std::memory_order_seq_cst) == 0) {
    c->read_end().end_wait();
  }
}

void arm_write(Connection* c) {
  assert(c->tx.held_by_me());
  c->bell_state.maybe_rung.store(true, std::memory_order_seq_cst);
  c->write_end().begin_wait();
}

void disarm_write(Connection* c) {
  assert(c->tx.held_by_me());
  if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0 &&
      c->write_armed_epolls.load(std::memory_order_seq_cst) == 0) {
    c->write_end().end_wait();
  }
}

}  // namespace shunt::sockets
