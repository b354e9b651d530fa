// What reading and writing share: the wait for the peer.
#pragma once

#include <cstdint>

#include "sockets/process/socket.h"
#include "sockets/stream/stream.h"

namespace shunt::sockets {

// A cancellation point (cancel.h). Sleeps once on the bell. deadline_ns: monotonic, 0: none. 0: woken
// (or worth another look); -EINTR; -EAGAIN: the deadline has passed.
long sleep_on_bell(int fd, std::int64_t deadline_ns);

// A cancellation point. Waits until the bell shows `events`; deadline and results as above.
long poll_bell(int fd, short events, std::int64_t deadline_ns);

// How often a sleeper was woken for nothing in a row; escalates from yielding to forcing a drain.
struct VainWakes {
  std::uint32_t count = 0;
  bool force = false;
  void another();
};

inline std::int64_t deadline_from(std::int64_t timeout_ns, std::int64_t now_ns) {
  return timeout_ns > 0 ? now_ns + timeout_ns : 0;
}

inline std::size_t total_size(const iovec* parts, std::size_t count) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += parts[i].iov_len;
  return size;
}

// Bytes that the rings carried; with tx or rx held, respectively.
void count_sent(Socket* socket, std::uint64_t bytes);
void count_received(Socket* socket, std::uint64_t bytes);

// Refreshes the reader unless poisoned; resets the connection when the peer's area is corrupt.
// With rx held. Afterwards the reader's available() is up to date.
void refresh_reader(Connection* connection);
// Bytes to read, 0 when poisoned or not connected yet. With rx held.
std::uint64_t readable_bytes(Connection* connection);
// Room for the writer, refreshed; with tx held.
bool writer_has_room(Connection* connection);
// Spins, then sleeps until there may be room, or nothing to wait for any more; results as of
// sleep_on_bell. No lock held, the socket pinned.
long wait_writable(int fd, Socket* socket, std::int64_t deadline_ns, VainWakes& vain);

}  // namespace shunt::sockets
