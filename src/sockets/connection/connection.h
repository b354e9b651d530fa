// A shunted connection: the part that a process shares with its forked children.
//
// One page of anonymous shared memory, never visible to a peer. After fork() both processes hold the
// same page, as in the kernel both hold the same open file description: positions, locks, flags and
// options are common to them. Pages are type-stable within a process: a page address, once a
// Connection, stays one (unused ones wait in a free list), so that a thread that races with close()
// locks a valid lock and then finds out that the socket is gone.
//
// Locks: `rx` guards reader, `tx` writer, `bell` bell_state and the arrival of CONNECTED, `state_lock`
// state. Order: tx, rx, bell, state_lock. `trouble` says without a lock that state is no longer that
// of an undisturbed connection, so the hot path looks no further.
#pragma once

#include <atomic>
#include <cstdint>

#include "conn/carriage.h"
#include "conn/state.h"
#include "layout/area.h"
#include "ring/reader.h"
#include "ring/state.h"
#include "ring/writer.h"
#include "sockets/arenas/arena.h"
#include "sockets/thread/lock.h"
#include "wire/endpoint.h"

namespace shunt::sockets {

inline constexpr int kMaxStoredOptions = 40;
inline constexpr int kStoredOptionBytes = 16;

// An option that the program set and may ask for again.
struct StoredOption {
  std::int32_t level;
  std::int32_t name;
  std::uint32_t length;  // 0: free
  std::uint8_t value[kStoredOptionBytes];
};

inline constexpr std::size_t kStashBytes = 512;

// Who sleeps on the bell, so that nobody swallows the ring that another needs; and what is known of what is on it.
struct BellState {
  std::atomic<std::uint32_t> sleepers;  // in a level-triggered wait on the bell, either direction
  std::atomic<std::uint32_t> left;      // rings that epoll waits did not bother to read
  std::atomic<bool> maybe_rung;         // an epoch was announced since the bell was last drained
  bool shut;  // its receiving half, to wake sleepers: plain bytes could not come through it
  bool connected_left;  // CONNECTED was taken, and left on the bell for those who sleep on it
  // A drain came upon the mark of a downgrade (downgrade/downgrade.h): the mark, and what lay behind it.
  std::uint32_t stash_begin;
  std::uint32_t stash_end;
  std::uint8_t stash[kStashBytes];
};

struct Connection {
  alignas(64) Lock tx;
  ring::WriterState writer;
  std::atomic<std::uint64_t> bytes_sent;
  bool remembered_as_grown;  // see idle_memory.h
  std::uint64_t head_at_trim;

  alignas(64) Lock rx;
  ring::ReaderState reader;
  std::atomic<std::uint64_t> bytes_received;

  alignas(64) Lock bell;
  BellState bell_state;
  std::atomic<std::uint32_t> read_armed_epolls;  // epoll sets that rely on recv_waiting being odd
  std::atomic<std::uint32_t> write_armed_epolls;
  std::atomic<std::uint32_t> space_lacks;   // how often a send found no room
  std::atomic<std::uint32_t> switch_waits;  // how often a ring has waited for a switching peer

  // The areas' controls and segments, as ring::OwnArea and ring::PeerArea have them.
  alignas(64) layout::Area* own;
  ring::Segments<std::uint8_t> own_segments;
  std::atomic<const layout::Area*> peer;  // null until CONNECTED came
  ring::Segments<const std::uint8_t> peer_segments;
  // Where they are: places in arenas, or (null) mapped alone.
  PlaceRef own_place;
  PlaceRef peer_place;
  bool
      peer_place_held;  // by this connection; false: it came after a fork, and the own arena holds it
  const void* reserved;  // a fork came first: where peer's memory will be; see before_fork()
  std::uint64_t reserved_bytes;
  Lock state_lock;
  conn::State state;
  std::atomic<conn::Carriage> carriage;  // how bytes travel: see carriage.h
  std::atomic<bool> trouble;             // shutdown, end, reset or error: see state
  std::atomic<bool> gone_noticed;        // the bell said end of file; state may lag behind
  std::atomic<bool> nonblocking;
  std::atomic<std::uint32_t> holders;  // processes that hold the connection, as far as known
  std::uint32_t fork_generation;       // of the process when the page was taken
  std::int64_t read_timeout_ns;        // SO_RCVTIMEO, 0: none
  std::int64_t write_timeout_ns;
  std::uint32_t read_low_water;  // SO_RCVLOWAT
  std::int32_t linger_seconds;   // SO_LINGER; -1: off
  wire::Endpoint local;
  wire::Endpoint remote;
  // Its areas are ranges of a device and its bell ends at the own partition's driver (driver/carriers/bell_relay.h),
  // which says in the own area how the other side ended: FateLine. Constant; there is no downgrade.
  bool relayed;
  std::uint32_t map_bytes;  // of an area that is mapped alone
  bool connecting_side;     // gives way when both sides begin
  bool trusts_peer;         // it is of root or of this user: it may send descriptors, and will not
  std::uint64_t rest_sent;  // of the own stream, moved over the bell: up to this position
  Lock options_lock;
  StoredOption options[kMaxStoredOptions];

  ring::Writer write_end() {
    return {{own, own_segments}, peer.load(std::memory_order_relaxed), &writer};
  }
  ring::Reader read_end() {
    return {own, {peer.load(std::memory_order_relaxed), peer_segments}, &reader};
  }
  void use_own(const ring::OwnArea& area) {
    own = area.control;
    own_segments = area.segments;
  }
};
static_assert(sizeof(Connection) <= 4096);

// nullptr: no memory. The page is zeroed, holders is 1.
Connection* allocate_connection();
// The page itself, after leave_areas(). tx and rx must be held by the caller,
// who must not touch them afterwards: they come back released.
void free_connection(Connection* connection);
// Before a fork: from now on pages in use may be shared with the child and are not used again.
void connections_before_fork();
// After it, in both: pages that came into use meanwhile are shared, too.
void connections_after_fork_in_parent();
// In the child: the free pages are the parent's. True: the connection came into use between the two.
void connections_after_fork();
bool born_while_forking(const Connection* connection);

// tx, rx and bell, in this order: nobody moves a byte or rings. Of nullptr: nothing.
class Still {
 public:
  explicit Still(Connection* connection) : c_(connection) {
    if (c_ == nullptr) return;
    tx_ = c_->tx.acquire();
    rx_ = c_->rx.acquire();
    bell_ = c_->bell.acquire();
  }
  ~Still() {
    if (bell_) c_->bell.release();
    if (rx_) c_->rx.release();
    if (tx_) c_->tx.release();
  }
  Still(const Still&) = delete;
  Still& operator=(const Still&) = delete;
  // False: this thread is inside one of them already, below on its stack (a signal handler asks).
  bool complete() const { return tx_ && rx_ && bell_; }

 private:
  Connection* c_;
  bool tx_ = false;
  bool rx_ = false;
  bool bell_ = false;
};

// Whether epoll sets wait for the kernel to tell them of a ring.
inline bool epolls_rely_on(const Connection* c) {
  return c->read_armed_epolls.load(std::memory_order_seq_cst) != 0 ||
         c->write_armed_epolls.load(std::memory_order_seq_cst) != 0;
}

// The connection has ended in this process: it lets go of its places, and what it has mapped alone is unmapped. With tx
// and rx held.
void leave_areas(Connection* connection);

}  // namespace shunt::sockets
