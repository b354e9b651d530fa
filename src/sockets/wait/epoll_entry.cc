#include "sockets/wait/epoll_entry.h"

#include <algorithm>
#include <cassert>

#include "base/untrusted.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/peer_place.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/process/missed.h"

namespace shunt::sockets {
namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kEnds = EPOLLHUP | EPOLLRDHUP | EPOLLERR;
constexpr std::uint32_t kOut = EPOLLOUT | EPOLLWRNORM;
}  // namespace

void make_hot(EpollEntry* e) {
  assert(e->set->lock.held_by_me());
  if (e->hot || e->dormant || e->watched != Watched::kConnection) return;
  e->hot = true;
  if (e->socket->connection->relayed) e->set->spin.far = true;
  e->idle_looks = 0;
  EpollEntry*& head = e->set->hot;
  if (head == nullptr) {
    e->next_hot = e->previous_hot = e;
    head = e;
    return;
  }
  e->next_hot = head;
  e->previous_hot = head->previous_hot;
  head->previous_hot->next_hot = e;
  head->previous_hot = e;
}

void make_cold(EpollEntry* e) {
  assert(e->set->lock.held_by_me());
  if (!e->hot) return;
  e->hot = false;
  EpollEntry*& head = e->set->hot;
  if (e->next_hot == e) {
    head = nullptr;
  } else {
    e->next_hot->previous_hot = e->previous_hot;
    e->previous_hot->next_hot = e->next_hot;
    if (head == e) head = e->next_hot;
  }
}

namespace {

// Of a downgraded connection that still has a rest. An edge is what the kernel reported: it made the entry
// fresh. More edges than needed do no harm, and this does not last.
std::uint32_t due_with_rest(EpollEntry* e, bool take) {
  assert(e->set->lock.held_by_me());
  const std::uint32_t mask = events_with_rest(e->fd, e->socket, e->events);
  if (e->rest_mask != kernel_events_with_rest(e->socket, e->events)) note_missed(e->socket);
  if (mask == 0 || ((e->events & EPOLLET) != 0 && !e->fresh)) return 0;
  if (take) {
    e->fresh = false;
    e->spent = (e->events & EPOLLONESHOT) != 0;
  }
  return mask;
}

}  // namespace

std::uint32_t due_events(EpollEntry* e, bool take) {
  assert(e->set->lock.held_by_me());
  if (e->spent || e->dormant || e->watched != Watched::kConnection) return 0;
  Connection* c = e->socket->connection;
  if (off_rings(c)) return due_with_rest(e, take);
  if (has_answered(c)) look_at_bell(e->fd, e->socket);
  const layout::Area* peer = c->peer.load(std::memory_order_acquire);
  std::uint64_t head = 0;
  bool data = false;
  if (peer != nullptr) {
    // Flags before head: what came before a FIN is seen with it.
    if (Untrusted(peer->hot.flags).copy_acquire() != 0) absorb_events(c);
    head = Untrusted(peer->hot.head).copy_acquire();
    // A racing reader may take the bytes first; the program's read then finds nothing, as it would.
    data = head - c->reader.tail >= c->read_low_water && !lost(c);
  }
  if (c->gone_noticed.load(kRelaxed)) absorb_events(c);
  if (follow_due(c)) {
    note_missed(e->socket);
    return 0;
  }
  const std::uint32_t lacks = c->space_lacks.load(kRelaxed);
  bool room = false;
  if ((e->events & kOut) != 0) {
    Hold tx(c->tx);
    if (tx.owns()) {
      c->write_end().take_echo();
      room = writer_has_room(c);
    }
  }
  std::uint32_t mask = 0;
  {
    Hold hold(c->state_lock);
    mask = conn::poll_mask(c->state, data, room);
  }
  const std::uint32_t ends = mask & kEnds;
  mask &= e->events | EPOLLERR | EPOLLHUP;
  if (mask == 0) return 0;
  if ((e->events & EPOLLET) != 0) {
    const bool edge = e->fresh || ends != e->reported_end || (data && head != e->reported_head) ||
                      ((mask & kOut) != 0 && lacks != e->seen_lacks);
    if (!edge) return 0;
  }
  if (take) {
    e->fresh = false;
    e->reported_head = head;
    e->reported_end = ends;
    if ((mask & kOut) != 0) e->seen_lacks = lacks;
    e->spent = (e->events & EPOLLONESHOT) != 0;
  }
  return mask;
}

bool arm(EpollEntry* e) {
  assert(e->set->lock.held_by_me());
  Connection* c = e->socket->connection;
  if (off_rings(c)) return due_events(e, false) != 0;  // the kernel tells
  {
    Hold rx(c->rx);
    if (!e->armed_read) c->read_armed_epolls.fetch_add(1, std::memory_order_seq_cst);
    e->armed_read = true;
    arm_read(c);
    if (rx.owns()) refresh_reader(c);  // the look before a sleep checks the peer's area
  }
  if ((e->events & kOut) != 0) {
    Hold tx(c->tx);
    if (!e->armed_write) c->write_armed_epolls.fetch_add(1, std::memory_order_seq_cst);
    e->armed_write = true;
    arm_write(c);
  }
  if (due_events(e, false) == 0 && !follow_due(c)) return false;
  disarm(e);
  return true;
}

void disarm(EpollEntry* e) {
  assert(e->set->lock.held_by_me());
  Connection* c = e->socket->connection;
  if (e->armed_read) {
    e->armed_read = false;
    Hold rx(c->rx);
    c->read_armed_epolls.fetch_sub(1, std::memory_order_seq_cst);
    disarm_read(c);
  }
  if (e->armed_write) {
    e->armed_write = false;
    Hold tx(c->tx);
    c->write_armed_epolls.fetch_sub(1, std::memory_order_seq_cst);
    disarm_write(c);
  }
}

}  // namespace shunt::sockets
