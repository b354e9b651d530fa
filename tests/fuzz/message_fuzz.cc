// message: messages as a peer, a program or another partition's driver sends them (wire/message.h)
//
// Untrusted: every byte, and how many there are. Asserted: decode() reads nothing beyond `size`; it refuses with
// EBADMSG or gives a message that encodes to the very same bytes; a message with any fields comes back as it was
// exactly if the contract in message.h calls it one.
#include <cerrno>
#include <cstring>

#include "fuzz/harness.h"
#include "wire/message.h"

namespace shunt::fuzz {
namespace {

using wire::Endpoint;
using wire::Message;
using wire::MessageType;

Mark decoded("bytes decoded");
Mark refused("fields refused");
Mark accepted("fields accepted");
Mark noticed("notices accepted");
Mark placed("places accepted");

bool legal(const Endpoint& e) {
  if (e.family == AF_INET6) return true;
  Endpoint expected;
  expected.family = e.family;
  if (e.family == AF_INET) {
    expected.port = e.port;
    std::memcpy(expected.address.data(), e.address.data(), 4);
  }
  return (e.family == AF_INET || e.family == 0) && e == expected;
}

bool legal_notice(std::uint64_t notice) {
  if ((notice >> 58 & 1) != 0) return false;
  const bool closed = (notice & wire::kNoticeClosed) != 0;
  if ((notice & wire::kNoticeReset) != 0 && !closed) return false;
  return closed || (notice & (wire::kNoticeRing | wire::kNoticeLetGo)) != 0;
}

// What message.h says of messages, once more.
bool legal(const Message& m) {
  const auto type = static_cast<std::uint16_t>(m.type);
  if (type == 0 || type > wire::kMessageTypeLast || m.flags > wire::kViaDriver) return false;
  if (m.reason >= wire::kReasonCount || !legal(m.source) || !legal(m.destination)) return false;
  const bool notice = m.type == MessageType::kNotice;
  if (m.notice_count > wire::kNoticesMax || notice != (m.notice_count != 0)) return false;
  for (std::size_t i = 0; i < m.notices.size(); ++i) {
    if (i >= m.notice_count && m.notices[i] != 0) return false;
    if (i < m.notice_count && !legal_notice(m.notices[i])) return false;
  }
  if (m.area.object == wire::kObjectPlace &&
      (m.arena.none() || (m.type != MessageType::kConnect && m.type != MessageType::kConnected))) {
    return false;
  }
  if (!notice) return true;
  const Message none;
  return m.flags == 0 && m.reason == 0 && m.id == 0 && m.generation == 0 &&
         m.source == none.source && m.destination == none.destination && m.area == none.area &&
         m.own == none.own && m.own_generation == 0;
}

void check_bytes(const Bytes& bytes) {
  const auto result = wire::decode(bytes.data(), bytes.size());
  if (!result.ok()) {
    require(result.error() == EBADMSG, "a refusal is EBADMSG");
    return;
  }
  decoded.reached();
  require(bytes.size() == wire::kMessageBytes, "a message has one size");
  require(legal(result.value()), "what was decoded is a message");
  const wire::MessageBytes again = wire::encode(result.value());
  require(std::memcmp(again.data(), bytes.data(), again.size()) == 0, "one message, one encoding");
}

Endpoint endpoint(Input& in) {
  static constexpr std::uint16_t kFamilies[] = {AF_INET, AF_INET6, 0, 1};
  Endpoint e;
  e.family = kFamilies[in.below(4)];
  e.port = in.take<std::uint16_t>();
  in.overlay(e.address.data(), e.family == AF_INET && in.flip() ? 4 : e.address.size());
  return e;
}

// Only the fields whose bits are set in the first word differ from those of an empty message.
Message message(Input& in) {
  Message m;
  const auto set = in.take<std::uint16_t>();
  const auto has = [set](int bit) { return (set >> bit & 1) != 0; };
  m.type = static_cast<MessageType>(in.below(7));
  if (has(0)) m.flags = in.take<std::uint16_t>();
  if (has(1)) m.reason = static_cast<std::uint32_t>(in.number());
  if (has(2)) m.id = in.number();
  if (has(3)) m.generation = in.take<std::uint32_t>();
  if (has(4)) m.partition = in.take<std::uint32_t>();
  if (has(5)) m.source = endpoint(in);
  if (has(6)) m.destination = endpoint(in);
  if (has(7)) m.area = {in.take<std::uint32_t>(), in.number(), in.number()};
  if (has(8)) m.own = {in.take<std::uint32_t>(), in.number(), in.number()};
  if (has(9)) m.own_generation = in.take<std::uint32_t>();
  if (has(10)) m.session = in.number();
  if (has(11)) m.from_session = in.number();
  if (has(12)) m.notice_count = static_cast<std::uint16_t>(in.number());
  for (std::size_t i = 0; has(12) && i < m.notices.size() && i < m.notice_count; ++i) {
    m.notices[i] = std::uint64_t{in.take<std::uint8_t>()} << 56 | in.number();
  }
  if (has(13)) m.notices[in.below(wire::kNoticesMax)] = in.number();
  if (has(14)) {
    // An arena lies where notices would: no message has both.
    m.area.object = wire::kObjectPlace;
    m.arena = {in.number(), in.number()};
  }
  if (m.area.object == wire::kObjectPlace) {
    m.notice_count = 0;
    m.notices = {};
  }
  return m;
}

void check_fields(const Message& m) {
  const wire::MessageBytes bytes = wire::encode(m);
  const auto result = wire::decode(bytes.data(), bytes.size());
  require(result.ok() == legal(m), "exactly messages are decoded");
  if (!result.ok()) return refused.reached();
  require(result.value() == m, "a message comes back as it was");
  accepted.reached();
  if (m.type == MessageType::kNotice) noticed.reached();
  if (m.area.object == wire::kObjectPlace) placed.reached();
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (std::uint16_t type = 1; type <= wire::kMessageTypeLast; ++type) {
    Message m;
    m.type = static_cast<MessageType>(type);
    m.session = 0x10001;
    if (m.type == MessageType::kNotice) {
      m.notice_count = 2;
      m.notices = {wire::kNoticeRing | 7, wire::kNoticeYours | wire::kNoticeClosed | 8};
    } else {
      m.id = type;
      m.area = {wire::kObjectSection, 1 << 21, 1 << 22};
      m.source.family = AF_INET;
      m.source.address = {10, 77, 0, 1};
      m.destination.family = AF_INET6;
    }
    const wire::MessageBytes bytes = wire::encode(m);
    all.emplace_back(1, std::uint8_t{0});
    all.back().insert(all.back().end(), bytes.begin(), bytes.end());
  }
  all.push_back({1, 0x00, 0x40, 1, 8, 7, 8, 9});
  all.push_back({1, 0xff, 0x0f, 1, 1, 0, 3, 9, 1, 0, 0, 0, 2, 0, 0, 0, 0, 80, 0, 1, 10, 77, 0, 1});
  all.push_back({1, 0x10, 0x1c, 5, 2, 0, 0, 0, 1, 2, 2, 0x40, 7, 0xa0, 8});
  all.push_back({1, 0x12, 0x1c, 5, 1, 2, 0, 0, 0, 1, 2, 2, 0x40, 7, 0xa0, 8});
  return all;
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  Input in(data, size);
  if (in.flip()) {
    check_fields(message(in));
  } else {
    check_bytes(in.rest());
  }
  return 0;
}
