// The messages: CONNECT, CONNECTED, REFUSED, STATUS set connections up; NOTICE tells what became of them.
//
// One fixed size (kMessageBytes), one encoding (little-endian, explicit offsets), the same on every
// channel: provider to provider over the bell, provider to driver, and driver to driver through an
// output queue. Descriptors travel beside a message as SCM_RIGHTS, in the order given below; a
// location with object kObjectDescriptor or kObjectWindow refers to the message's first descriptor.
//
// Areas in arenas (one partition; layout/arena.h): a location with object kObjectPlace is a place in the arena that
// `arena` names.
//
//   CONNECT    connecting -> listening side.  fds: {first arena, socket that reserves the local port}
//   CONNECTED  listening -> connecting side.  fds: {second arena}. Where the header of the first arena says that the
//              second one is known already, no message is sent: AreaHeader::answers in the second area says it
//
// Areas in memory objects of their own (partitions of one kernel):
//
//   CONNECT    connecting -> listening side, by way of the drivers between partitions.
//              fds to the own driver:       {first area, socket that reserves the local port, bell}
//              fds driver -> listener:      {first area, bell}, with kViaDriver set
//   CONNECTED  listening -> connecting side: the second area. fds on the bell: {second area}
//   REFUSED    the request is over; `reason` says why.
//   STATUS     the request is in the listener's backlog (`reason` kNone): connect() may return.
//
// Areas in ranges of the window's device (partitions of several kernels): drivers give the ranges out, and no
// descriptor crosses the window. What differs:
//
//   CONNECT    fds to the own driver:       {socket that reserves the local port, bell}; no area yet
//              between drivers:             `area` is the first area (kObjectSection)
//              fds driver -> listener:      {device, bell}; `area` the first, `own` the second (kObjectWindow)
//   STATUS     fds driver -> program:       {device}; `area` the first area (kObjectWindow)
//   CONNECTED  between drivers: `area` the second (kObjectSection); on the bell kObjectWindow and {device}
//   all        between drivers: both sides' sessions (driver/core/liveness.h)
//   NOTICE     between drivers only: up to kNoticesMax connections that ring, were closed, or let go of an area
//
// A bell carries messages and rings; a ring is one byte 0x00, a message begins with 'S'. One kPlainMark says
// that plain bytes follow, for good (sockets/downgrade/downgrade.h).
//
// Pure: no I/O. decode() accepts any bytes and returns EBADMSG for what encode() cannot produce, and for a
// NOTICE that says anything but notices, or a notice that says nothing or contradicts itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "wire/arena_id.h"
#include "wire/endpoint.h"
#include "wire/reason.h"
#include "wire/version.h"

namespace shunt::wire {

inline constexpr std::size_t kMessageBytes = 256;
inline constexpr std::uint8_t kRing = 0x00;
inline constexpr std::uint8_t kPlainMark = 0x50;

enum class MessageType : std::uint16_t {
  kConnect = 1,
  kConnected = 2,
  kRefused = 3,
  kStatus = 4,
  kNotice = 5,
};
inline constexpr std::uint16_t kMessageTypeLast = 5;

// Where an area is: an object and a range in it.
inline constexpr std::uint32_t kObjectNone = 0;
inline constexpr std::uint32_t kObjectDescriptor =
    1;  // the first descriptor sent along, a whole memfd
// Between drivers: `offset` from the beginning of the *sending* partition's section.
inline constexpr std::uint32_t kObjectSection = 2;
// To a program: `offset` in the first descriptor sent along, the window's device. `length` is what to map there;
// both are multiples of the window's granule.
inline constexpr std::uint32_t kObjectWindow = 3;
// A place in the arena `Message::arena`: `offset` is its number, `length` how many places the arena has.
inline constexpr std::uint32_t kObjectPlace = 4;
struct Location {
  std::uint32_t object = kObjectNone;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  friend bool operator==(const Location&, const Location&) = default;
};

inline constexpr std::uint16_t kViaDriver = 1;  // Message::flags

// One notice is about one connection, named by the id of its CONNECT: bits | id.
inline constexpr std::uint64_t kNoticeYours = std::uint64_t{1} << 63;  // the receiver gave the id
inline constexpr std::uint64_t kNoticeRing = std::uint64_t{1} << 62;   // ring your program's bell
inline constexpr std::uint64_t kNoticeClosed = std::uint64_t{1}
                                               << 61;  // my program's end is closed
inline constexpr std::uint64_t kNoticeLetGo = std::uint64_t{1}
                                              << 60;  // nothing here maps your area any more
inline constexpr std::uint64_t kNoticeReset = std::uint64_t{1}
                                              << 59;  // only with kNoticeClosed: an abort
inline constexpr std::uint64_t kNoticeId = (std::uint64_t{1} << 58) - 1;  // bit 58 is zero
inline constexpr std::uint32_t kNoticesMax = 14;

// The first of the ids that a driver gives in the life `generation`, all of which fit into kNoticeId: 26 bits of
// the generation, 32 bits counted up.
constexpr std::uint64_t first_id(std::uint64_t generation) {
  return ((generation & 0x3ffffff) << 32) + 1;
}

struct Message {
  MessageType type = MessageType::kConnect;
  std::uint16_t flags = 0;
  std::uint32_t reason = 0;      // wire::Reason
  std::uint64_t id = 0;          // names the request between two drivers; 0 elsewhere
  std::uint32_t generation = 0;  // of the area at `area`
  std::uint32_t partition = 0;   // number of the sending partition; 0 on the direct way
  Endpoint source;               // of the connecting socket
  Endpoint destination;          // as the connecting program asked for it
  Location area;
  Location own;  // the *receiver's* area, chosen for it; CONNECT to a listener only
  std::uint32_t own_generation = 0;  // of the area at `own`
  std::uint64_t session = 0;         // of the receiver towards the sender, as the sender knows it
  std::uint64_t from_session = 0;    // of the sender towards the receiver
  // With an `area` that is a place, and only then; such a message has no notices: both have one place in the encoding.
  ArenaId arena;
  std::uint16_t notice_count = 0;  // 0, or 1 .. kNoticesMax in a NOTICE
  std::array<std::uint64_t, kNoticesMax> notices{};
  friend bool operator==(const Message&, const Message&) = default;
};

using MessageBytes = std::array<std::uint8_t, kMessageBytes>;

MessageBytes encode(const Message& message);
Result<Message> decode(const std::uint8_t* bytes, std::size_t size);

}  // namespace shunt::wire
