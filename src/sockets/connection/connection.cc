#include "sockets/connection/connection.h"

#include <cassert>
#include <cstring>

#include "sockets/arenas/places.h"
#include "sockets/connection/areas.h"
#include "sockets/thread/free_list.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kChunkPages = 64;

// A free page's link lies behind the Connection: late lockers may still be inside its locks.
struct FreePage {
  alignas(alignof(Connection)) unsigned char connection[kPageBytes - sizeof(void*)];
  std::atomic<FreePage*> next;
};
static_assert(sizeof(Connection) <= sizeof(FreePage::connection));

FreeList<FreePage, &FreePage::next> free_pages;
std::uint32_t fork_generation = 0;

FreePage* take_page() {
  if (FreePage* page = free_pages.pop()) return page;
  void* memory = sys::mmap(nullptr, kPageBytes * kChunkPages, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == nullptr) return nullptr;
  auto* pages = static_cast<FreePage*>(memory);
  // From the end, so that pages are taken in address order.
  for (std::size_t i = kChunkPages; i-- > 1;) free_pages.push(pages + i);
  return pages;
}

// Everything but the locks, which a late locker may hold at this moment.
void reset(Connection* c) {
  c->tx.forget_recovery();
  c->rx.forget_recovery();
  c->writer = {};
  c->bytes_sent.store(0, std::memory_order_relaxed);
  c->remembered_as_grown = false;
  c->head_at_trim = 0;
  c->reader = {};
  c->bytes_received.store(0, std::memory_order_relaxed);
  c->bell_state.sleepers.store(0, std::memory_order_relaxed);
  c->bell_state.left.store(0, std::memory_order_relaxed);
  c->bell_state.maybe_rung.store(false, std::memory_order_relaxed);
  c->bell_state.shut = false;
  c->bell_state.connected_left = false;
  c->bell_state.stash_begin = 0;
  c->bell_state.stash_end = 0;
  c->read_armed_epolls.store(0, std::memory_order_relaxed);
  c->write_armed_epolls.store(0, std::memory_order_relaxed);
  c->space_lacks.store(0, std::memory_order_relaxed);
  c->switch_waits.store(0, std::memory_order_relaxed);
  c->own = nullptr;
  c->own_segments = {};
  c->peer.store(nullptr, std::memory_order_relaxed);
  c->peer_segments = {};
  c->own_place = {};
  c->peer_place = {};
  c->peer_place_held = false;
  c->reserved = nullptr;
  c->reserved_bytes = 0;
  c->relayed = false;
  c->map_bytes = layout::kAreaBytes;
  c->state = {};
  c->trouble.store(false, std::memory_order_relaxed);
  c->gone_noticed.store(false, std::memory_order_relaxed);
  c->nonblocking.store(false, std::memory_order_relaxed);
  c->read_timeout_ns = 0;
  c->write_timeout_ns = 0;
  c->carriage.store(conn::Carriage::kWaiting, std::memory_order_relaxed);
  c->connecting_side = false;
  c->trusts_peer = false;
  c->rest_sent = 0;
  c->local = {};
  c->remote = {};
  std::memset(c->options, 0, sizeof c->options);
}

}  // namespace

Connection* allocate_connection() {
  FreePage* page = take_page();
  if (page == nullptr) return nullptr;
  auto* c = reinterpret_cast<Connection*>(page);
  Hold tx(c->tx);
  Hold rx(c->rx);
  reset(c);
  c->holders.store(1, std::memory_order_relaxed);
  c->fork_generation = fork_generation;
  c->linger_seconds = -1;
  c->read_low_water = 1;
  return c;
}

void free_connection(Connection* connection) {
  assert(connection->tx.held_by_me() && connection->rx.held_by_me());
  void* page = connection;
  if (connection->fork_generation != fork_generation) {
    // A forked process may still use the page: leave it to them, unlocked, and put a fresh one in its
    // place.
    connection->rx.release();
    connection->tx.release();
    sys::mmap(page, kPageBytes, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  } else {
    connection->own = nullptr;
    connection->peer.store(nullptr, std::memory_order_relaxed);
    connection->rx.release();
    connection->tx.release();
  }
  free_pages.push(static_cast<FreePage*>(page));
}

void connections_before_fork() { ++fork_generation; }

void connections_after_fork_in_parent() { ++fork_generation; }

bool born_while_forking(const Connection* c) { return c->fork_generation + 1 == fork_generation; }

void connections_after_fork() {
  ++fork_generation;
  free_pages.clear();
}

void leave_areas(Connection* c) {
  assert(c->tx.held_by_me() && c->rx.held_by_me());
  const layout::Area* peer = c->peer.load(std::memory_order_relaxed);
  if (c->reserved != nullptr) {
    sys::munmap(const_cast<void*>(c->reserved), c->reserved_bytes);
  } else if (c->peer_place.arena == nullptr) {
    unmap_area(peer, c->map_bytes);
  }
  if (c->own_place.arena == nullptr) {
    unmap_area(c->own, c->map_bytes);
    return;
  }
  let_go({.own = c->own_place,
          .peer = c->peer_place,
          .peer_held = c->peer_place_held,
          .peer_generation = c->reader.generation,
          .last = c->holders.load(std::memory_order_acquire) == 0,
          .peer_gone = c->gone_noticed.load(std::memory_order_acquire),
          .written = c->writer.head,
          .segments = c->writer.members | c->writer.released});
}

}  // namespace shunt::sockets
