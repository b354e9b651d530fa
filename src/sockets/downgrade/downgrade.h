// Downgrade: a shunted connection gives up its rings and carries on with plain bytes over its bell.
//
// Needed when a descriptor gets a holder that knows nothing of rings: a program that exec() starts with it,
// a process that receives it with SCM_RIGHTS. From then on the kernel's AF_UNIX socket is the connection, for
// all holders of both ends; no byte is lost, doubled or reordered. There is no way back.
//
// The protocol. Each end has a SwitchLine in its own area (layout/area.h): `plain` is kCarrying, kSwitching or
// kPlain, `ringing` counts the rings that its threads are about to send.
//
//   first end (whoever begins)                   second end (when it notices; any call on the socket does)
//   lock tx, rx, bell: nobody of ours moves
//   plain = kSwitching; FENCE
//   peer.plain must be kCarrying (else: below)   ring(): ringing += 1; FENCE; peer.plain still kCarrying?
//   wait until peer.ringing == 0                         then send the ring; ringing -= 1
//   read the bell empty: only rings are on it
//   send [mark, X] and the bytes [X, head) of
//     the own stream that are still unread,
//     as many of the last as the bell takes
//   plain = kPlain, kFlagPlain                   sees the flag, or the mark: lock tx, rx, bell
//                                                read the bell up to and including the mark
//                                                read from the area up to X, then from the bell; of what was
//                                                  carried over skip what it had read from the area already
//                                                send [peer.tail, head) of the own stream over the bell,
//                                                  before anything new; plain = kPlain
//
// The first end also announces that it sleeps, so that whoever writes meanwhile comes to ring and sees it switch.
// So no ring follows the first end's look at an empty bell, and a new holder of it sees the stream's bytes and
// nothing else. When both ends begin at once the accepting one wins: the connecting one, when it sees
// kSwitching, goes back to kCarrying and becomes the second; the accepting one waits for that.
//
// What the second end has not yet read from the area, or not yet been able to send over the bell, is its
// *rest*. With no rest left the socket becomes Kind::kPlain: the kernel serves its data calls.
//
// A relayed connection (connection.h) is never downgraded: the kernel knows nothing of its other end.
//
// Errors: a peer whose mark is nonsense is reset like one with a nonsensical area. A peer that died is none:
// what it left is moved into a fresh socket pair, which takes the bell's place.
// Thread safety: any thread; locks tx, rx, bell are taken (in this order), and the registry of epoll.h.
#pragma once

#include <cstdint>

#include "sockets/connection/carriage.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

enum class Downgraded : std::uint8_t {
  kYes,  // from now on the descriptor is an ordinary byte stream for whoever holds it
  kNotNow,  // nothing has changed: the listener has not accepted it yet, a rest remains, or it is relayed
  kPeerGone,  // nobody is there to agree with, and what it has left lies in its area: see holders/orphan.h
};
// Begins, or ends what the other side began, and waits (1 s at most each) for a CONNECTED that is under way and
// for a rest to move. `deadline`: monotonic ns, of the wait for CONNECTED; 0: 1 s from now.
Downgraded downgrade(int fd, Socket* socket, std::int64_t deadline = 0);

// ---- for the other calls of this layer ----

// The peer began: do the second end's part. With no lock held; fd may be -1. Cheap when there is nothing to do. The
// caller is not counted as a sleeper. False: not now, this thread is inside one of the connection's locks (a signal
// handler asks).
bool follow_downgrade(int fd, Socket* socket);
// Data calls on a connection that is downgraded but has a rest; with no lock held. kNotOurs: it is Kind::kPlain
// now, look the descriptor up again.
// `done`: bytes of `parts` that the rings took before; they are part of the result.
long send_with_rest(int fd, Socket* socket, const iovec* parts, std::size_t count, std::size_t done,
                    int flags);
long receive_with_rest(int fd, Socket* socket, const iovec* parts, std::size_t count, int flags);
long shutdown_with_rest(int fd, Socket* socket, int how);
// What poll would say, and what the kernel is to be asked to watch the bell for meanwhile.
std::uint32_t events_with_rest(int fd, Socket* socket, std::uint32_t wanted);
std::uint32_t kernel_events_with_rest(Socket* socket, std::uint32_t wanted);
std::uint64_t available_with_rest(Socket* socket);
std::uint64_t unsent_with_rest(Socket* socket);
// Before the last close in this process, or its exit: what was accepted from the program is still sent.
// Until `deadline` (monotonic ns).
void send_rest_before_close(int fd, Socket* socket, std::int64_t deadline);

}  // namespace shunt::sockets
