// How the bytes of a connection travel, and what changes it: one state, one table.
//
//   kWaiting    not yet: the peer's area is not known. What is written waits in the own area.
//   kRings      through the rings.
//   kFollowing  the peer has left its rings for plain bytes on the bell (a downgrade); we have not followed yet.
//   kRest       plain bytes on the bell, behind what is left of the rings and still to be moved.
//   kPlain      plain bytes on the bell and nothing else: the kernel serves the data calls.
//   kLost       not at all: what the peer's memory says cannot be. It is never looked at again.
//
// Each end has its own; a downgrade takes one end from kRings to kPlain at once (it has no rest: the other end has its
// bytes in the area, and it gets the other's over the bell), and the other by way of kFollowing and kRest.
//
// The table is total: threads notice the same thing twice, and a hostile peer does anything at any time. What cannot
// happen, or has been noticed before, changes nothing. kPlain is final; of kLost there is one way out, into a fresh
// socket for the program that is to hold the connection from then on.
//
// Pure: no descriptor, no clock, no memory of others. Thread safety: none needed.
#pragma once

#include <cstdint>

namespace shunt::conn {

enum class Carriage : std::uint8_t { kWaiting, kRings, kFollowing, kRest, kPlain, kLost };
inline constexpr int kCarriages = 6;

// Named for what happened.
enum class CarriageEvent : std::uint8_t {
  kConnected,  // the peer's area is mapped
  kPeerLeft,   // the peer's line, flag or mark says that plain bytes follow
  kLeft,       // we began, the peer agreed: the mark is sent
  kFollowed,   // the peer's mark is read, and everything that was carried over with it
  kRestMoved,  // nothing is left to be read from the area or to be sent over the bell
  kRehomed,  // the peer is gone: what it has left was moved into a socket pair, which is the bell now
  kArrived,    // a plain socket has come into this process, by exec or SCM_RIGHTS
  kUntrusted,  // what the peer's memory says cannot be, or positions of our own may be half changed
};
inline constexpr int kCarriageEvents = 8;

Carriage after(Carriage now, CarriageEvent event);

// The rings carry nothing any more: calls move the rest, and then plain bytes.
constexpr bool off_rings(Carriage c) { return c == Carriage::kRest || c == Carriage::kPlain; }
// The rings are not for new bytes: follow first, or do without them. The hot path's only question.
constexpr bool leaves_rings(Carriage c) {
  return c >= Carriage::kFollowing && c != Carriage::kLost;
}

}  // namespace shunt::conn
