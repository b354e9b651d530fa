// The bell: the AF_UNIX stream socket that is the kernel's side of a shunted connection.
//
// Sleeping on it is safe for any number of threads and processes at once:
//   - a sleeper waits level-triggered (poll, or recv with MSG_PEEK) and consumes nothing;
//   - rings are drained only by one who is about to sleep while nobody else does (`sleepers`);
//   - after a drain the sleeper announces a new odd epoch and looks once more before it sleeps;
//   - whoever drains what an armed epoll entry relies on notes that: see process/missed.h;
//   - an epoch is taken back (made even) only when no other sleeper relies on it.
// So each sleeper has, after the last drain, an epoch for which the peer rings.
//
// Thread safety: all functions may be called concurrently. The caller has pinned the Socket.
#pragma once

#include <cstdint>

#include "sockets/process/socket.h"

namespace shunt::sockets {

// One byte to the peer. Must be called with tx or rx held and the table entry verified, so that
// `fd` cannot have become another file. Notes a peer that is gone.
void ring(int fd, Connection* connection);

// Before sleeping: drains if allowed, counts the caller as a sleeper. False: `fd` is not ours any
// more (closed by another thread); do not sleep. `force` drains although others are counted as
// sleepers: for a caller who was woken many times for nothing (a sleeping process was killed).
bool enter_sleep(int fd, Socket* socket, bool force);
void leave_sleep(Connection* connection);

// Announce that we are about to sleep for data / for space; then look once more. With the direction's
// lock held. `disarm_*` after the sleep, likewise.
void arm_read(Connection* connection);
void disarm_read(Connection* connection);
void arm_write(Connection* connection);
void disarm_write(Connection* connection);

}  // namespace shunt::sockets
