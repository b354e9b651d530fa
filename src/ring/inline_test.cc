// The small message in the hot line: used when the reader is not behind, never stale.
//
// The tests tell the two copies of a message apart by wiping one of them.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

using layout::kInlineBytes;

struct Inline : testing::Test {
  Pair pair;
  Writer writer = pair.writer_a();
  Reader reader = pair.reader_b();
  Status status = Status::kOk;

  void write(const std::string& text) {
    ASSERT_EQ(
        writer.append(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), &status),
        text.size());
    writer.publish();
  }
  std::string read(std::size_t size) {
    EXPECT_EQ(reader.refresh(), Status::kOk);
    std::string out(size, '\0');
    out.resize(reader.read(reinterpret_cast<std::uint8_t*>(out.data()), size, &status));
    EXPECT_EQ(status, Status::kOk);
    EXPECT_EQ(writer.refresh(), Status::kOk);
    return out;
  }
  void wipe_segments() {
    std::memset(layout::segment_data(pair.a.memory.own(), 0), '#', layout::kStreamBytes);
  }
  void wipe_inline() {
    for (auto& word : pair.a.memory.own()->hot.inline_data) word.store(0x2a2a2a2a2a2a2a2a);
  }
};

TEST_F(Inline, EverySizeThatFits) {
  for (std::size_t size = 1; size <= kInlineBytes; ++size) {
    const std::string text(size, static_cast<char>('A' + size % 26));
    write(text);
    wipe_segments();
    EXPECT_EQ(read(1000), text);
  }
}

TEST_F(Inline, OneByteMoreGoesThroughTheSegment) {
  const std::string text(kInlineBytes + 1, 'x');
  write(text);
  wipe_inline();
  EXPECT_EQ(read(1000), text);
}

TEST_F(Inline, SeveralAppendsMakeOneMessage) {
  ASSERT_EQ(writer.append(reinterpret_cast<const std::uint8_t*>("HTTP"), 4, &status), 4U);
  ASSERT_EQ(writer.append(reinterpret_cast<const std::uint8_t*>("/1.1"), 4, &status), 4U);
  writer.publish();
  wipe_segments();
  EXPECT_EQ(read(100), "HTTP/1.1");
}

TEST_F(Inline, ReaderBehindGetsTheSegment) {
  write("first");
  write("second");  // the reader is behind: not inline, and "first" stays in the line
  EXPECT_EQ(read(5), "first");
  wipe_inline();
  EXPECT_EQ(read(100), "second");
}

TEST_F(Inline, BufferTooSmallNeverMixesTheCopies) {
  write("abcdef");
  wipe_inline();
  EXPECT_EQ(read(2), "ab");
  EXPECT_EQ(read(100), "cdef");
}

TEST_F(Inline, OldMessageIsNeverTakenForANewOne) {
  write("stale");
  EXPECT_EQ(read(100), "stale");
  // A long message, then a short one while the reader is behind: the line still holds "stale".
  write(std::string(200, 'l'));
  write("fresh");
  EXPECT_EQ(pair.a.memory.own()->hot.inline_start.load(), 0U);
  EXPECT_EQ(read(200), std::string(200, 'l'));
  EXPECT_EQ(read(100), "fresh");
}

TEST_F(Inline, PeekThenRead) {
  write("peek");
  ASSERT_EQ(reader.refresh(), Status::kOk);
  std::uint8_t out[8];
  EXPECT_EQ(reader.copy(0, out, 8, &status), 4U);
  EXPECT_EQ(std::memcmp(out, "peek", 4), 0);
  EXPECT_EQ(reader.copy(1, out, 8, &status), 3U);
  EXPECT_EQ(std::memcmp(out, "eek", 3), 0);
  write("more");
  EXPECT_EQ(read(100), "peekmore");
}

TEST_F(Inline, AtASegmentsEnd) {
  // 88-byte messages do not divide a segment: some are split over a link, and those are not inline.
  for (int i = 0; i < 3000; ++i) {
    const std::string text(kInlineBytes, static_cast<char>('a' + i % 26));
    std::size_t done = 0;
    while (done < text.size()) {
      done += writer.append(reinterpret_cast<const std::uint8_t*>(text.data()) + done,
                            text.size() - done, &status);
    }
    writer.publish();
    ASSERT_EQ(read(1000), text) << i;
  }
}

TEST_F(Inline, RequestAndAnswerNeedNoTailLine) {
  // With the echo alone (never refresh()) every message of a ping-pong goes inline.
  Writer answers = pair.writer_b();
  Reader client = pair.reader_a();
  std::uint8_t byte = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t start = pair.a.writer_state.head;
    const auto ping = static_cast<std::uint8_t>(i);
    ASSERT_EQ(writer.append(&ping, 1, &status), 1U);
    writer.publish();
    ASSERT_EQ(pair.a.memory.own()->hot.inline_start.load(), start);
    ASSERT_EQ(reader.refresh(), Status::kOk);
    answers.take_echo();
    ASSERT_EQ(reader.read(&byte, 1, &status), 1U);
    ASSERT_EQ(byte, ping);
    const std::uint64_t answer_start = pair.b.writer_state.head;
    ASSERT_EQ(answers.append(&ping, 1, &status), 1U);
    answers.publish();
    ASSERT_EQ(pair.b.memory.own()->hot.inline_start.load(), answer_start);
    ASSERT_EQ(client.refresh(), Status::kOk);
    writer.take_echo();
    ASSERT_EQ(client.read(&byte, 1, &status), 1U);
  }
}

}  // namespace
}  // namespace shunt::ring::test
