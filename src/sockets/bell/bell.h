// The bell: the AF_UNIX stream socket that is the kernel's side of a shunted connection.
//
// Sleeping on it is safe for any number of threads and processes at once:
//   - a sleeper waits level-triggered (poll, or recv with MSG_PEEK) and consumes nothing;
//   - rings are drained only by one who is about to sleep while nobody else does (`sleepers`);
//   - after a drain the sleeper announces a new odd epoch and looks once more before it sleeps;
//   - whoever drains what an armed epoll entry relies on notes that: see note_missed() in epoll.h;
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

// After set-up no descriptors are expected on a bell. One that comes all the same is closed by the
// kernel while we read, and its close() may take as long as the peer chose (a TCP socket with
// SO_LINGER). From Linux 6.16 on the kernel can be told to refuse them at the sender.
void refuse_descriptors(int bell);

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

// Whether the kernel says that nobody holds the other end, be there bytes on the bell or not.
bool hung_up(int fd);

// Brings `state` up to date with what the peer's flags and the bell have said. Takes state_lock.
void absorb_events(Connection* connection);
// The peer's area failed a check: reset, and never read it again.
void reset_untrusted(Connection* connection);

// A process that shares the connection was killed while it moved positions: what they say cannot be
// trusted any more. Reset, for both sides.
void reset_broken(Connection* connection);

// Whether epoll sets wait for the kernel to tell them of a ring.
bool epolls_rely_on(const Connection* connection);

// Looks at the bell without blocking: takes a CONNECTED that has come, notes the end of the peer.
// Called after a wake-up, or when a call needs to know now. Takes bell.
// `hang_up`: the kernel has shown a hang-up, perhaps behind rings that are still to be read.
void look_at_bell(int fd, Socket* socket, bool hang_up = false);

// For calls that neither sleep nor ring, and so would never learn that the peer's process was killed:
// looks for that, once in a millisecond at most. True: it has just been noticed. With tx or rx held and
// the table entry verified.
bool glance(int fd, Socket* socket);

}  // namespace shunt::sockets
