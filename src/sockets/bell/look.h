// Looking at a bell: what the kernel and the peer say there, and what becomes of it.
//
// Nothing that a peer says is believed beyond its own connection: what cannot be resets it, and its area is never
// read again.
//
// Thread safety: all functions may be called concurrently; locks are taken in the order of connection.h. The caller
// has pinned the Socket.
#pragma once

#include <cstddef>

#include "sockets/process/socket.h"

namespace shunt::sockets {

// After set-up no descriptors are expected on a bell. One that comes all the same is closed by the
// kernel while we read, and its close() may take as long as the peer chose (a TCP socket with
// SO_LINGER). From Linux 6.16 on the kernel can be told to refuse them at the sender.
void refuse_descriptors(int bell);

// Whether the kernel says that nobody holds the other end, be there bytes on the bell or not.
bool hung_up(int fd);

// Brings `state` up to date with what the peer's flags and the bell have said. Takes state_lock.
void absorb_events(Connection* connection);
// The peer's area failed a check: reset, and never read it again.
void reset_untrusted(Connection* connection);

// A process that shares the connection was killed while it moved positions: what they say cannot be
// trusted any more. Reset, for both sides.
void reset_broken(Connection* connection);

// Looks at the bell without blocking: takes a CONNECTED that has come, notes the end of the peer.
// Called after a wake-up, or when a call needs to know now. Takes bell.
// `hang_up`: the kernel has shown a hang-up, perhaps behind rings that are still to be read.
void look_at_bell(int fd, Socket* socket, bool hang_up = false);

// For calls that neither sleep nor ring, and so would never learn that the peer's process was killed:
// looks for that, once in a millisecond at most. True: it has just been noticed. With tx or rx held and
// the table entry verified.
bool glance(int fd, Socket* socket);

// ---- for bell.cc ----

// Only a closed other end makes a hang-up; shutdown() of a bell, by us or by the peer to wake its own
// sleepers, makes reads or rings fail too and means nothing. A driver shuts a bell for good, and says why before.
void note_if_gone(int fd, Connection* c);
// The peer leaves its rings. Between kernels nobody can follow it, and no honest peer does that.
void peer_leaves(Connection* c);
// Takes what is on the bell, a CONNECTED too. `others_sleep`: they would miss what is taken, so only
// CONNECTED is looked at and all stays. With c->bell held.
void drain(int fd, Socket* socket, bool others_sleep);

}  // namespace shunt::sockets
