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
constexpr std::size_t kAtObject = 72;          // u32
constexpr std::size_t kAtOffset = 80;          // u64
constexpr std::size_t kAtLength = 88;          // u64
constexpr std::size_t kAtOwnObject = 96;       // u32
constexpr std::size_t kAtOwnGeneration = 100;  // u32
constexpr std::size_t kAtOwnOffset = 104;      // u64
constexpr std::size_t kAtOwnLength = 112;      // u64
constexpr std::size_t kAtSession = 120;        // u64
constexpr std::size_t kAtNoticeCount = 128;    // u16
constexpr std::size_t kAtFromSession = 136;    // u64
constexpr std::size_t kAtNotices = 144;        // 14 x u64
constexpr std::size_t kAtArena = kAtNotices;   // 2 x u64; no notice names an arena
static_assert(kAtNotices + kNoticesMax * sizeof(std::uint64_t) == kMessageBytes);
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

bool sound_notice(std::uint64_t notice) {
  constexpr std::uint64_t kKnown =
      kNoticeYours | kNoticeRing | kNoticeClosed | kNoticeLetGo | kNoticeReset | kNoticeId;
  if ((notice & ~kKnown) != 0) return false;
  if ((notice & (kNoticeRing | kNoticeClosed | kNoticeLetGo)) == 0) return false;
  return (notice & kNoticeReset) == 0 || (notice & kNoticeClosed) != 0;
}

// A NOTICE says nothing but notices; nothing else says any.
bool sound_notices(const Message& m) {
  const bool notice = m.type == MessageType::kNotice;
  if (m.notice_count > kNoticesMax || (m.notice_count != 0) != notice) return false;
  for (std::uint32_t i = 0; i < kNoticesMax; ++i) {
    if (i < m.notice_count ? !sound_notice(m.notices[i]) : m.notices[i] != 0) return false;
  }
  if (!notice) return true;
  Message bare;
  bare.type = m.type;
  bare.partition = m.partition;
  bare.session = m.session;
  bare.from_session = m.from_session;
  bare.notice_count = m.notice_count;
  bare.notices = m.notices;
  return m == bare;
}

// Whoever names a place says in which arena, and nobody else names one.
bool sound_arena(const Message& m) {
  const bool place = m.area.object == kObjectPlace;
  const bool may = m.type == MessageType::kConnect || m.type == MessageType::kConnected;
  return m.arena.none() != place && (may || !place);
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
  put(out, kAtOwnObject, m.own.object);
  put(out, kAtOwnGeneration, m.own_generation);
  put(out, kAtOwnOffset, m.own.offset);
  put(out, kAtOwnLength, m.own.length);
  put(out, kAtSession, m.session);
  put(out, kAtNoticeCount, m.notice_count);
  put(out, kAtFromSession, m.from_session);
  if (m.area.object == kObjectPlace) {
    put(out, kAtArena, m.arena.high);
    put(out, kAtArena + 8, m.arena.low);
    return out;
  }
  for (std::uint32_t i = 0; i < kNoticesMax; ++i) put(out, kAtNotices + 8 * i, m.notices[i]);
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
  if (type < 1 || type > kMessageTypeLast) return Error{EBADMSG};
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
  m.own.object = get<std::uint32_t>(in.data(), kAtOwnObject);
  m.own_generation = get<std::uint32_t>(in.data(), kAtOwnGeneration);
  m.own.offset = get<std::uint64_t>(in.data(), kAtOwnOffset);
  m.own.length = get<std::uint64_t>(in.data(), kAtOwnLength);
  m.session = get<std::uint64_t>(in.data(), kAtSession);
  m.notice_count = get<std::uint16_t>(in.data(), kAtNoticeCount);
  m.from_session = get<std::uint64_t>(in.data(), kAtFromSession);
  if (m.area.object == kObjectPlace) {
    m.arena.high = get<std::uint64_t>(in.data(), kAtArena);
    m.arena.low = get<std::uint64_t>(in.data(), kAtArena + 8);
  }
  for (std::uint32_t i = 0; m.area.object != kObjectPlace && i < kNoticesMax; ++i) {
    m.notices[i] = get<std::uint64_t>(in.data(), kAtNotices + 8 * i);
  }
  if (!sound_notices(m) || !sound_arena(m)) return Error{EBADMSG};
  // Every byte between and behind the fields is zero: one message has one encoding.
  if (encode(m) != in) return Error{EBADMSG};
  return m;
}

}  // namespace shunt::wire
