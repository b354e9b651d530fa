#include "wire/message.h"

#include <cerrno>
#include <cstring>

namespace shunt::wire {
namespace {

// Offsets of the encoding; the bytes in between and behind are zero.
constexpr std::size_t kAtMagic = 0;        // "SHMS"
constexpr std::size_t kAtVersion = 4;      // u16
constexpr std::size_t kAtType = 6;         // u16
constexpr std::size_t kAtFlags = 8;        // u16
constexpr std::size_t kAtReason = 12;      // u32
constexpr std::size_t kAtId = 16;          // u64
constexpr std::size_t kAtGeneration = 24;  // u32
constexpr std::size_t kAtPartition = 28;   // u32
constexpr std::size_t kAtSource = 32;      // endpoint, 20 bytes
constexpr std::size_t kAtDestination = 52;
constexpr std::size_t kAtObject = 72;  // u32
constexpr std::size_t kAtOffset = 80;  // u64
constexpr std::size_t kAtLength = 88;  // u64
constexpr std::uint8_t kMagic[4] = {'S', 'H', 'M', 'S'};

template <typename T>
void put(MessageBytes& out, std::size_t at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out[at + i] = static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}

template <typename T>
T get(const std::uint8_t* in, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{in[at + i]} << (8 * i);
  return static_cast<T>(value);
}

void put_endpoint(MessageBytes& out, std::size_t at, const Endpoint& e) {
  put<std::uint16_t>(out, at, e.family);
  put<std::uint16_t>(out, at + 2, e.port);
  std::memcpy(out.data() + at + 4, e.address.data(), e.address.size());
}

bool get_endpoint(const std::uint8_t* in, std::size_t at, Endpoint* e) {
  e->family = get<std::uint16_t>(in, at);
  e->port = get<std::uint16_t>(in, at + 2);
  std::memcpy(e->address.data(), in + at + 4, e->address.size());
  if (e->family == AF_INET) {
    for (std::size_t i = 4; i < e->address.size(); ++i) {
      if (e->address[i] != 0) return false;
    }
    return true;
  }
  return e->family == AF_INET6 || (e->family == 0 && e->port == 0 && e->is_any());
}

}  // namespace

MessageBytes encode(const Message& m) {
  MessageBytes out{};
  std::memcpy(out.data() + kAtMagic, kMagic, sizeof kMagic);
  put<std::uint16_t>(out, kAtVersion, kWireVersion);
  put(out, kAtType, static_cast<std::uint16_t>(m.type));
  put(out, kAtFlags, m.flags);
  put(out, kAtReason, m.reason);
  put(out, kAtId, m.id);
  put(out, kAtGeneration, m.generation);
  put(out, kAtPartition, m.partition);
  put_endpoint(out, kAtSource, m.source);
  put_endpoint(out, kAtDestination, m.destination);
  put(out, kAtObject, m.area.object);
  put(out, kAtOffset, m.area.offset);
  put(out, kAtLength, m.area.length);
  return out;
}

Result<Message> decode(const std::uint8_t* bytes, std::size_t size) {
  if (size != kMessageBytes) return Error{EBADMSG};
  // Work on a private copy: the bytes may lie in a section that their writer still changes.
  std::array<std::uint8_t, kMessageBytes> in;
  std::memcpy(in.data(), bytes, in.size());
  if (std::memcmp(in.data() + kAtMagic, kMagic, sizeof kMagic) != 0) return Error{EBADMSG};
  if (get<std::uint16_t>(in.data(), kAtVersion) != kWireVersion) return Error{EBADMSG};
  Message m;
  const auto type = get<std::uint16_t>(in.data(), kAtType);
  if (type < 1 || type > 4) return Error{EBADMSG};
  m.type = static_cast<MessageType>(type);
  m.flags = get<std::uint16_t>(in.data(), kAtFlags);
  if ((m.flags & ~kViaDriver) != 0) return Error{EBADMSG};
  m.reason = get<std::uint32_t>(in.data(), kAtReason);
  if (m.reason >= kReasonCount) return Error{EBADMSG};
  m.id = get<std::uint64_t>(in.data(), kAtId);
  m.generation = get<std::uint32_t>(in.data(), kAtGeneration);
  m.partition = get<std::uint32_t>(in.data(), kAtPartition);
  if (!get_endpoint(in.data(), kAtSource, &m.source)) return Error{EBADMSG};
  if (!get_endpoint(in.data(), kAtDestination, &m.destination)) return Error{EBADMSG};
  m.area.object = get<std::uint32_t>(in.data(), kAtObject);
  m.area.offset = get<std::uint64_t>(in.data(), kAtOffset);
  m.area.length = get<std::uint64_t>(in.data(), kAtLength);
  // Every byte between and behind the fields is zero: one message has one encoding.
  if (encode(m) != in) return Error{EBADMSG};
  return m;
}

}  // namespace shunt::wire
