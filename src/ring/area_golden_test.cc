// The bytes that init_area and a Writer leave in an area, pinned: two builds with one layout version
// must understand each other. If this test fails, wire::kLayoutVersion has to change.
#include <gtest/gtest.h>

#include <string>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

// Lines of 16 bytes that are not all zero: "offset: bytes".
std::string dump(const std::uint8_t* bytes, std::size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t at = 0; at < size; at += 16) {
    bool zero = true;
    for (std::size_t i = 0; i < 16; ++i) zero &= bytes[at + i] == 0;
    if (zero) continue;
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[at >> shift & 15];
    out += ':';
    for (std::size_t i = 0; i < 16; ++i) {
      if (i % 4 == 0) out += ' ';
      out += kDigits[bytes[at + i] >> 4];
      out += kDigits[bytes[at + i] & 15];
    }
    out += '\n';
  }
  return out;
}

TEST(AreaGolden, FreshArea) {
  AreaMemory memory(AreaMemory::Peer::kReadOnlyMapping);
  init_area(memory.own(), 0x01020304);
  EXPECT_EQ(dump(memory.bytes(), layout::kSegmentsOffset),
            R"(0000: 53485431 04008000 04030201 00000100
0010: 40000000 00100000 00104000 00000000
0090: 04030201 00000000 00000000 00000000
)");
  const layout::AreaHeader header = memory.own()->header;
  EXPECT_TRUE(valid_header(header, 0x01020304));
  EXPECT_FALSE(valid_header(header, 0x01020305));
}

TEST(AreaGolden, AreaInUse) {
  Pair pair;
  Writer writer = pair.writer_a();
  Reader own_reader = pair.reader_a();
  Status status = Status::kOk;
  std::uint8_t sink[512];

  // a: a segment and 300 bytes, then (b has read all) a message that goes inline. b: 400 bytes, of
  // which a reads 256. a waits for both, says fin.
  const Pattern pattern(42);
  ASSERT_EQ(send(writer, pair.a.writer_state, pattern, 65836, &status), 65836U);
  Reader peer_reader = pair.reader_b();
  ASSERT_EQ(peer_reader.refresh(), Status::kOk);
  ASSERT_EQ(peer_reader.consume(65836), Status::kOk);
  Writer peer_writer = pair.writer_b();
  ASSERT_EQ(send(peer_writer, pair.b.writer_state, pattern, 400, &status), 400U);
  ASSERT_EQ(own_reader.refresh(), Status::kOk);
  writer.take_echo();
  ASSERT_EQ(own_reader.read(sink, 256, &status), 256U);
  const char message[] = "PING golden";
  ASSERT_EQ(writer.append(reinterpret_cast<const std::uint8_t*>(message), 11, &status), 11U);
  writer.publish();
  own_reader.begin_wait();
  writer.begin_wait();
  writer.end_wait();
  writer.begin_wait();
  writer.set_flags(layout::kFlagFin);

  EXPECT_EQ(dump(pair.a.memory.bytes(), layout::kSegmentsOffset),
            R"(0000: 53485431 04008000 5555aaaa 00000100
0010: 40000000 00100000 00104000 00000000
0080: 37010100 00000000 00010000 00000000
0090: 5555aaaa 01000000 03000000 01000b00
00a0: 2c010100 00000000 50494e47 20676f6c
00b0: 64656e47 20676f6c 00000000 00000000
0100: 00010000 00000000 00000000 00000000
0180: 00010000 00000000 00000000 00000000
0400: 00000000 00000100 00000100 01000000
0420: 00000000 37010000 37010000 00000000
0430: 01000000 00000000 00000100 00000000
)");
  const std::uint8_t* data = layout::segment_data(pair.a.memory.own(), 1);
  EXPECT_EQ(std::memcmp(data + 300, message, 11), 0) << "inline, and in the segment too";
}

TEST(AreaGolden, HeadersOfOthersAreRefused) {
  AreaMemory memory(AreaMemory::Peer::kReadOnlyMapping);
  init_area(memory.own(), 7);
  const layout::AreaHeader good = memory.own()->header;
  ASSERT_TRUE(valid_header(good, 7));
  // Every byte of every constant field counts; the reserved ones do not.
  for (std::size_t at = 0; at < offsetof(layout::AreaHeader, answers); ++at) {
    layout::AreaHeader bad = good;
    reinterpret_cast<std::uint8_t*>(&bad)[at] ^= 0x10;
    EXPECT_FALSE(valid_header(bad, 7)) << at;
  }
}

}  // namespace
}  // namespace shunt::ring::test
