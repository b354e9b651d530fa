#include "sockets/downgrade/follow.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/plain_bell.h"
#include "sockets/process/missed.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

bool take_exactly(int fd, std::uint64_t count) {
  while (count > 0) {
    std::uint8_t waste[4096];
    const long n = sys::recv(fd, waste, std::min<std::uint64_t>(count, sizeof waste), MSG_DONTWAIT);
    if (n <= 0) return false;
    count -= static_cast<std::uint64_t>(n);
  }
  return true;
}

// Reads the bell up to and including the mark, and nothing of what lies behind it: that may be for another
// holder. (Some of it is in the stash if a drain came upon the mark unawares.)
bool find_position(int fd, Connection* c, std::uint64_t* position) {
  assert(c->bell.held_by_me());
  std::uint8_t bytes[256];
  const std::uint8_t* mark = bytes;
  if (stashed(c) >= kMarkBytes) {
    mark = c->bell_state.stash + c->bell_state.stash_begin;
    c->bell_state.stash_begin += kMarkBytes;
  } else if (stashed(c) != 0) {
    // A drain has cut it in two.
    const std::size_t missing = kMarkBytes - stashed(c);
    std::memmove(bytes, c->bell_state.stash + c->bell_state.stash_begin, stashed(c));
    if (sys::recv(fd, bytes + stashed(c), missing, MSG_DONTWAIT) != static_cast<long>(missing))
      return false;
    c->bell_state.stash_begin = c->bell_state.stash_end;
  } else {
    int reads = 0;
    for (bool found = false; !found;) {
      if (++reads > kMostReads) return false;
      const long n = sys::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
      if (n <= 0) return false;
      const std::uint8_t* const end = bytes + n;
      mark = bytes;
      while (mark != end && *mark == wire::kRing) ++mark;
      found = end - mark >= static_cast<long>(kMarkBytes);
      if (!found && mark == bytes) return false;
      const long taken = (mark - bytes) + (found ? static_cast<long>(kMarkBytes) : 0);
      if (!take_exactly(fd, static_cast<std::uint64_t>(taken))) return false;
    }
  }
  if (mark[0] != wire::kPlainMark) return false;
  *position = 0;
  for (int i = 0; i < 8; ++i) *position |= std::uint64_t{mark[8 + i]} << (8 * i);
  return true;
}

// Of what was carried over, the bytes that the program has read from the area already.
bool skip_carried(int fd, Connection* c, std::uint64_t count) {
  const auto from_stash = std::min<std::uint64_t>(count, stashed(c));
  c->bell_state.stash_begin += static_cast<std::uint32_t>(from_stash);
  return take_exactly(fd, count - from_stash);
}

// The second end's part. The peer's head and tail were final before it sent its mark. False: what it says
// makes no sense. With all three locks held.
bool follow(int fd, const Socket* s) {
  Connection* c = s->connection;
  assert(c->tx.held_by_me() && c->rx.held_by_me() && c->bell.held_by_me());
  std::uint64_t carried_from = 0;
  if (c->bell_state.connected_left && !take_exactly(fd, wire::kMessageBytes)) return false;
  c->bell_state.connected_left = false;
  if (!find_position(fd, c, &carried_from)) return false;
  ring::Reader reader = c->read_end();
  if (reader.refresh() != ring::Status::kOk) return false;
  const std::uint64_t head = c->reader.head;
  if (head - carried_from > layout::kStreamBytes) return false;
  const std::uint64_t tail = c->reader.tail;
  const bool overlap = tail - carried_from <= head - carried_from;  // modular: from <= tail <= head
  if (!skip_carried(fd, c, overlap ? tail - carried_from : 0)) return false;
  c->reader.head = overlap ? tail : carried_from;
  if (c->write_end().refresh() != ring::Status::kOk) return false;
  c->rest_sent = c->writer.tail;
  prepare_bell(fd, s);
  apply(c, conn::CarriageEvent::kFollowed);
  publish_plain(fd, c);
  return true;
}

// The mark wakes everybody who sleeps on the bell, as long as it is there: they look for room or for plain
// bytes afterwards. Nobody goes to sleep any more who has seen the peer's flag. A sleeper that was killed stays
// counted and is not waited for any longer: false.
bool let_sleepers_wake(Connection* c) {
  constexpr timespec kPause{0, 100'000};
  for (int i = 0; i < 1000; ++i) {
    if (c->bell_state.sleepers.load(std::memory_order_seq_cst) == 0) return true;
    if (i < 100) {
      sys::sched_yield();
    } else {
      sys::raw(SYS_nanosleep, sys::arg(&kPause), 0);
    }
  }
  return false;
}

}  // namespace

bool follow_downgrade(int fd, Socket* s) {
  Connection* c = s->connection;
  if (!follow_due(c)) return true;
  const SignalsBlocked blocked;
  for (bool done = false; !done;) {
    const bool patient = let_sleepers_wake(c);
    const Still still(c);
    if (!still.complete()) return false;
    if (!follow_due(c)) return true;  // another thread did, and may have made it Kind::kPlain
    // With the bell's lock nobody is on his way to sleep.
    if (patient && c->bell_state.sleepers.load(std::memory_order_seq_cst) != 0) continue;
    if (fd < 0 || !still_under(fd, s, c)) fd = next_descriptor(s, 0, -1);
    if (fd < 0 || !still_under(fd, s, c)) return false;
    if (!follow(fd, s)) reset_untrusted(c);
    if (off_rings(c)) send_rest(fd, c);
    done = true;
  }
  if (off_rings(c) && !settle(s)) rewatch(s);
  return true;
}

}  // namespace shunt::sockets
