#include "wire/message.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>

namespace shunt::wire {
namespace {

Message sample() {
  Message m;
  m.type = MessageType::kConnect;
  m.flags = kViaDriver;
  m.reason = static_cast<std::uint32_t>(Reason::kBacklogFull);
  m.id = 0x1122334455667788;
  m.generation = 0xa1b2c3d4;
  m.partition = 7;
  m.source.family = AF_INET;
  m.source.port = 40000;
  m.source.address = {10, 77, 0, 1};
  m.destination.family = AF_INET6;
  m.destination.port = 6379;
  m.destination.address = {0xfd, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
  m.area.object = kObjectDescriptor;
  m.area.offset = 0x0102030405060708;
  m.area.length = 4198400;
  m.own.object = kObjectWindow;
  m.own.offset = 0x1112131415161718;
  m.own.length = 6291456;
  m.own_generation = 0xe5f60718;
  m.session = 0x2122232425262728;
  m.from_session = 0x3132333435363738;
  return m;
}

Message notices() {
  Message m;
  m.type = MessageType::kNotice;
  m.partition = 2;
  m.session = 0x10003;
  m.from_session = 0x20004;
  m.notice_count = 3;
  m.notices[0] = kNoticeRing | 5;
  m.notices[1] = kNoticeYours | kNoticeClosed | kNoticeReset | kNoticeLetGo | kNoticeId;
  m.notices[2] = kNoticeLetGo | first_id(~std::uint64_t{0});
  return m;
}

std::string hex(const std::uint8_t* bytes, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) {
    out += "0123456789abcdef"[bytes[i] >> 4];
    out += "0123456789abcdef"[bytes[i] & 15];
    if (i % 16 == 15) out += '\n';
  }
  return out;
}

// Two builds of Shunt with one version number must understand each other: if this test fails,
// kWireVersion has to change with the encoding.
TEST(Message, GoldenBytes) {
  const MessageBytes bytes = encode(sample());
  EXPECT_EQ(hex(bytes.data(), 144),
            "53484d53030001000100000008000000\n"
            "8877665544332211d4c3b2a107000000\n"
            "0200409c0a4d00010000000000000000\n"
            "000000000a00eb18fd00000102030405\n"
            "060708090a0b0c0d0100000000000000\n"
            "08070605040302010010400000000000\n"
            "030000001807f6e51817161514131211\n"
            "00006000000000002827262524232221\n"
            "00000000000000003837363534333231\n");
  for (std::size_t i = 144; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0) << i;
}

TEST(Message, GoldenNotices) {
  const MessageBytes bytes = encode(notices());
  EXPECT_EQ(hex(bytes.data(), 168),
            "53484d53030005000000000000000000\n"
            "00000000000000000000000002000000\n"
            "00000000000000000000000000000000\n"
            "00000000000000000000000000000000\n"
            "00000000000000000000000000000000\n"
            "00000000000000000000000000000000\n"
            "00000000000000000000000000000000\n"
            "00000000000000000300010000000000\n"
            "03000000000000000400020000000000\n"
            "0500000000000040ffffffffffffffbb\n"
            "01000000ffffff13");
  for (std::size_t i = 168; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0) << i;
}

TEST(Message, NoticesRoundTripUpToTheLast) {
  Message m = notices();
  for (std::uint16_t count = 1; count <= kNoticesMax; ++count) {
    m.notice_count = count;
    m.notices[count - 1u] = kNoticeRing | count;
    if (count < 3) continue;
    const MessageBytes bytes = encode(m);
    const auto back = decode(bytes.data(), bytes.size());
    ASSERT_TRUE(back.ok()) << count;
    EXPECT_EQ(back.value(), m);
  }
}

TEST(Message, NoticesWithoutSenseAreRefused) {
  const auto refused = [](auto&& change) {
    Message m = notices();
    change(m);
    const MessageBytes bytes = encode(m);
    const auto back = decode(bytes.data(), bytes.size());
    return !back.ok() && back.error() == EBADMSG;
  };
  EXPECT_FALSE(refused([](Message&) {}));
  EXPECT_TRUE(refused([](Message& m) { m.notices[0] = 5; })) << "says nothing";
  EXPECT_TRUE(refused([](Message& m) { m.notices[0] = kNoticeYours | 5; }));
  EXPECT_TRUE(refused([](Message& m) { m.notices[0] |= std::uint64_t{1} << 58; }));
  EXPECT_TRUE(refused([](Message& m) { m.notices[0] |= kNoticeReset; })) << "reset, not closed";
  EXPECT_TRUE(refused([](Message& m) { m.notices[3] = kNoticeRing | 1; })) << "behind the count";
  EXPECT_TRUE(refused([](Message& m) { m.notice_count = 4; })) << "an empty one";
  EXPECT_TRUE(refused([](Message& m) { m.notice_count = kNoticesMax + 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.notice_count = 0; }));
  // Nothing but notices in a NOTICE.
  EXPECT_TRUE(refused([](Message& m) { m.id = 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.flags = kViaDriver; }));
  EXPECT_TRUE(refused([](Message& m) { m.reason = 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.generation = 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.own_generation = 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.area.object = kObjectSection; }));
  EXPECT_TRUE(refused([](Message& m) { m.own.length = 1; }));
  EXPECT_TRUE(refused([](Message& m) { m.source.family = AF_INET6; }));
  EXPECT_TRUE(refused([](Message& m) { m.destination.family = AF_INET; }));
  // No notices in anything else.
  EXPECT_TRUE(refused([](Message& m) { m.type = MessageType::kStatus; }));
  EXPECT_TRUE(refused([](Message& m) {
    m = sample();
    m.notices[13] = kNoticeRing;
  }));
}

TEST(Message, IdsOfEveryLifeFitIntoANotice) {
  for (const std::uint64_t life : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    const std::uint64_t last = first_id(life) + 0xfffffffe;
    EXPECT_NE(0u, first_id(life));
    EXPECT_EQ(last, last & kNoticeId);
  }
  EXPECT_NE(first_id(1), first_id(2));
}

TEST(Message, RoundTrip) {
  for (std::uint16_t type = 1; type <= 4; ++type) {
    Message m = sample();
    m.type = static_cast<MessageType>(type);
    const MessageBytes bytes = encode(m);
    EXPECT_NE(bytes[0], kRing) << "a message must not look like a ring";
    const auto back = decode(bytes.data(), bytes.size());
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back.value(), m);
  }
  const MessageBytes empty = encode(Message{});
  ASSERT_TRUE(decode(empty.data(), empty.size()).ok());
  EXPECT_EQ(decode(empty.data(), empty.size()).value(), Message{});
}

TEST(Message, WrongLengthIsRefused) {
  std::array<std::uint8_t, kMessageBytes + 1> bytes{};
  const MessageBytes good = encode(sample());
  std::memcpy(bytes.data(), good.data(), good.size());
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    const auto m = decode(bytes.data(), size);
    EXPECT_EQ(m.ok(), size == kMessageBytes) << size;
    if (!m.ok()) {
      EXPECT_EQ(m.error(), EBADMSG);
    }
  }
}

// Every byte set to every other value: refused, or exactly what encode() would have produced.
TEST(Message, EverySingleByteCorruption) {
  const MessageBytes good = encode(sample());
  int accepted = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      if (good[at] == value) continue;
      MessageBytes bad = good;
      bad[at] = static_cast<std::uint8_t>(value);
      const auto m = decode(bad.data(), bad.size());
      if (!m.ok()) {
        EXPECT_EQ(m.error(), EBADMSG);
        continue;
      }
      ++accepted;
      EXPECT_EQ(encode(m.value()), bad) << "byte " << at << " = " << value;
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST(Message, FieldsOutOfRangeAreRefused) {
  const auto refused = [](auto&& change) {
    MessageBytes bytes = encode(sample());
    change(bytes);
    const auto m = decode(bytes.data(), bytes.size());
    return !m.ok() && m.error() == EBADMSG;
  };
  EXPECT_TRUE(refused([](MessageBytes& b) { b[0] = 's'; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[4] = kWireVersion + 1; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[6] = 0; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[6] = 5; })) << "a NOTICE without notices";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[6] = kMessageTypeLast + 1; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[7] = 1; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[8] = 2; })) << "unknown flag";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[10] = 1; })) << "padding";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[12] = kReasonCount; }));
  EXPECT_TRUE(refused([](MessageBytes& b) { b[32] = AF_UNIX; })) << "family";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[32] = 0; })) << "no family, but an address";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[41] = 1; })) << "behind an IPv4 address";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[77] = 1; })) << "padding";
  EXPECT_TRUE(refused([](MessageBytes& b) { b[255] = 1; })) << "padding";
}

TEST(Message, APlaceIsNamedWithItsArenaAndNothingElseIs) {
  Message m = sample();
  m.area = {kObjectPlace, 17, 512};
  m.arena = {0x0102030405060708, 0x1112131415161718};
  const MessageBytes bytes = encode(m);
  EXPECT_EQ("08070605040302011817161514131211\n", hex(bytes.data() + 144, 16));
  const auto back = decode(bytes.data(), bytes.size());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(m, back.value());
  const auto refused = [](const Message& message) {
    const MessageBytes b = encode(message);
    return !decode(b.data(), b.size()).ok();
  };
  Message unnamed = m;
  unnamed.arena = {};
  EXPECT_TRUE(refused(unnamed));
  Message status = m;
  status.type = MessageType::kStatus;
  EXPECT_TRUE(refused(status)) << "only CONNECT and CONNECTED name areas of programs";
  Message notice = notices();
  notice.area = m.area;
  notice.arena = m.arena;
  EXPECT_TRUE(refused(notice));
}

TEST(Message, RandomBytes) {
  std::mt19937_64 random(20240601);
  const MessageBytes good = encode(sample());
  const MessageBytes other = encode(notices());
  for (int round = 0; round < 200000; ++round) {
    // Noise alone never gets past the magic: half of the rounds keep a good beginning.
    MessageBytes bytes = round % 2 != 0 ? MessageBytes{} : round % 4 == 0 ? good : other;
    const std::size_t from = round % 2 == 0 ? random() % 160 : 0;
    const std::size_t count = 1 + random() % (round % 2 == 0 ? 8 : kMessageBytes);
    for (std::size_t i = from; i < bytes.size() && i < from + count; ++i) {
      bytes[i] = static_cast<std::uint8_t>(random());
    }
    const auto m = decode(bytes.data(), bytes.size());
    if (m.ok()) {
      ASSERT_EQ(encode(m.value()), bytes);
    } else {
      ASSERT_EQ(m.error(), EBADMSG);
    }
  }
}

}  // namespace
}  // namespace shunt::wire
