// Downgrade: a shunted connection gives up its rings and carries on with plain bytes over its bell.
//
// Needed when a descriptor gets a holder that knows nothing of rings: a program that exec() starts with it,
// a process that receives it with SCM_RIGHTS. From then on the kernel's AF_UNIX socket is the connection, for
// all holders of both ends; no byte is lost, doubled or reordered. There is no way back.
//
// The protocol. Each end has a SwitchLine in its own area (layout/area.h): `plain` is kCarrying, kSwitching,
// kPlain or kLeaving, `ringing` counts the rings that its threads are about to send.
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
//   plain = kPlain; FENCE
//   peer.plain must not be kLeaving (below)
//   kFlagPlain                                   sees kPlain, the flag, or the mark: lock tx, rx, bell
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
// An end whose last descriptor is being closed does not wait for the other (holders/last_close.h): plain = kLeaving;
// FENCE; is peer.plain kPlain? Then it is the second end first, and closes after that. Else it closes. If it is
// preempted before its look, both see each other: it becomes the second end, and the first waits for that. If the
// first end is preempted before its store of kPlain, it finds kLeaving afterwards, waits for the hang-up and goes back
// to kCarrying: the peer is gone, and what it has written is in its area.
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

#include "sockets/process/socket.h"

namespace shunt::sockets {

enum class Downgraded : std::uint8_t {
  kYes,  // from now on the descriptor is an ordinary byte stream for whoever holds it
  kNotNow,  // nothing has changed: the listener has not accepted it yet, a rest remains, or it is relayed
  kPeerGone,  // nobody is there to agree with, and what it has left lies in its area: see holders/orphan.h
};
// Begins, or ends what the other side began, and waits for a CONNECTED that is under way, for a peer that is about to
// ring or to switch itself, and for a rest to move. `deadline`: monotonic ns, of all that waiting; 0: 1 s from now.
// After it a connection is downgraded only where nothing has to be waited for, so that peers who never come to an end
// cost one deadline together.
Downgraded downgrade(int fd, Socket* socket, std::int64_t deadline = 0);

}  // namespace shunt::sockets
