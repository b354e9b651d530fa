// The set-up messages: CONNECT, CONNECTED, REFUSED, STATUS.
//
// One fixed size (kMessageBytes), one encoding (little-endian, explicit offsets), the same on every
// channel: provider to provider over the bell, provider to driver, and driver to driver through an
// output queue. Descriptors travel beside a message as SCM_RIGHTS, in the order given below; a
// location with object kObjectDescriptor refers to the message's first descriptor.
//
//   CONNECT    connecting -> listening side, by way of the drivers between partitions.
//              fds on the direct way:       {first area, socket that reserves the local port}
//              fds to the own driver:       {first area, socket that reserves the local port, bell}
//              fds driver -> listener:      {first area, bell}, with kViaDriver set
//   CONNECTED  listening -> connecting side: the second area. fds on the bell: {second area}
//   REFUSED    the request is over; `reason` says why.
//   STATUS     the request is in the listener's backlog (`reason` kNone): connect() may return.
//
// A bell carries messages and rings; a ring is one byte 0x00, a message begins with 'S'. One kPlainMark says
// that plain bytes follow, for good (sockets/downgrade.h).
//
// Pure: no I/O. decode() accepts any bytes and returns EBADMSG for what encode() cannot produce.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "wire/endpoint.h"
#include "wire/reason.h"
#include "wire/version.h"

namespace shunt::wire {

inline constexpr std::size_t kMessageBytes = 256;
inline constexpr std::uint8_t kRing = 0x00;
inline constexpr std::uint8_t kPlainMark = 0x50;

enum class MessageType : std::uint16_t { kConnect = 1, kConnected = 2, kRefused = 3, kStatus = 4 };

// Where an area is: an object and a range in it.
inline constexpr std::uint32_t kObjectDescriptor = 1;  // the first descriptor sent along
struct Location {
  std::uint32_t object = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  friend bool operator==(const Location&, const Location&) = default;
};

inline constexpr std::uint16_t kViaDriver = 1;  // Message::flags

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
  friend bool operator==(const Message&, const Message&) = default;
};

using MessageBytes = std::array<std::uint8_t, kMessageBytes>;

MessageBytes encode(const Message& message);
Result<Message> decode(const std::uint8_t* bytes, std::size_t size);

}  // namespace shunt::wire
