// One stream against a reference: random sizes, many laps, growth, shrinking, limits.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

using layout::kSegmentBytes;
using layout::kSegmentCount;
using layout::kStreamBytes;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kTotal = 24ull << 20;
constexpr int kTurns = 2000;
#else
constexpr std::uint64_t kTotal = 96ull << 20;
constexpr int kTurns = 20000;
#endif

class Stream : public testing::TestWithParam<std::tuple<std::uint64_t, std::uint64_t>> {};

// Writer and reader take random turns; whoever is favoured changes, so that the stream is now full,
// now empty. Every byte is compared, and no invariant of the writer may break.
TEST_P(Stream, RandomSizesAgainstReference) {
  const auto [limit, start] = GetParam();
  Pair pair(limit, start);
  Writer writer = pair.writer_a();
  Reader reader = pair.reader_b();
  std::mt19937_64 random(limit ^ start);
  Pattern pattern(random());
  std::vector<std::uint8_t> buffer(256 * 1024);
  const std::uint64_t limit_now = pair.a.writer_state.limit;
  const std::uint64_t segments_max = (limit_now + kSegmentBytes - 1) / kSegmentBytes;
  std::uint64_t favour = 50;
  Status status = Status::kOk;

  while (pair.b.reader_state.tail < start + kTotal) {
    if (random() % 64 == 0) favour = 5 + random() % 91;
    if (random() % 100 < favour) {
      send(writer, pair.a.writer_state, pattern, interesting_size(random), &status);
      ASSERT_EQ(status, Status::kOk);
      ASSERT_LE(writer.in_flight(), limit_now);
      ASSERT_LE(writer.segments(), segments_max);
    } else {
      ASSERT_EQ(reader.refresh(), Status::kOk);
      const std::uint64_t available = reader.available();
      const std::uint64_t position = pair.b.reader_state.tail;
      const std::size_t size = std::min(interesting_size(random), buffer.size());
      const std::size_t n = reader.read(buffer.data(), size, &status);
      ASSERT_EQ(status, Status::kOk);
      ASSERT_EQ(n, std::min<std::uint64_t>(size, available));
      ASSERT_TRUE(pattern.matches(position, buffer.data(), n)) << position;
    }
    if (random() % 1000 == 0) {
      ASSERT_EQ(writer.refresh(), Status::kOk);
      writer.shrink();
      writer.take_released();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    LimitsAndPositions, Stream,
    testing::Combine(testing::Values(std::uint64_t{1}, std::uint64_t{131073}, std::uint64_t{200000},
                                     std::uint64_t{1} << 20, kStreamBytes),
                     testing::Values(std::uint64_t{0}, (std::uint64_t{1} << 32) - 70000,
                                     (std::uint64_t{1} << 53) + 12345)));

struct StreamFixture : testing::Test {
  Pair pair;
  Writer writer = pair.writer_a();
  Reader reader = pair.reader_b();
  Pattern pattern{7};
  Status status = Status::kOk;
  std::vector<std::uint8_t> buffer = std::vector<std::uint8_t>(kStreamBytes + 1);

  std::size_t send_bytes(std::size_t size) {
    return send(writer, pair.a.writer_state, pattern, size, &status);
  }
  std::size_t read_bytes(std::size_t size) {
    EXPECT_EQ(reader.refresh(), Status::kOk);
    const std::uint64_t position = pair.b.reader_state.tail;
    const std::size_t n = reader.read(buffer.data(), size, &status);
    EXPECT_EQ(status, Status::kOk);
    EXPECT_TRUE(pattern.matches(position, buffer.data(), n)) << "at " << position;
    return n;
  }
};
using StreamGrowth = StreamFixture;
using StreamLimit = StreamFixture;
using StreamPeek = StreamFixture;
using StreamEdge = StreamFixture;

TEST_F(StreamGrowth, NoSegmentWhileIdleAndOneOnFirstUse) {
  EXPECT_EQ(writer.segments(), 0U);
  EXPECT_TRUE(writer.writable());
  send_bytes(1);
  EXPECT_EQ(writer.segments(), 1U);
}

TEST_F(StreamGrowth, GrowsToTheLimitAndStops) {
  for (const std::uint64_t limit :
       {std::uint64_t{128} * 1024, std::uint64_t{300000}, kStreamBytes}) {
    Pair p(limit);
    Writer w = p.writer_a();
    EXPECT_EQ(send(w, p.a.writer_state, pattern, kStreamBytes + 1, &status), limit);
    EXPECT_EQ(status, Status::kOk);
    EXPECT_EQ(w.segments(), (limit + kSegmentBytes - 1) / kSegmentBytes);
    EXPECT_EQ(w.space(), 0U);
    EXPECT_FALSE(w.writable());
    Reader r = p.reader_b();
    ASSERT_EQ(r.refresh(), Status::kOk);
    EXPECT_EQ(r.available(), limit);
    EXPECT_EQ(r.read(buffer.data(), buffer.size(), &status), limit);
    EXPECT_TRUE(pattern.matches(0, buffer.data(), limit));
  }
}

TEST_F(StreamGrowth, ShrinksWhenDrained) {
  send_bytes(kStreamBytes);
  EXPECT_EQ(writer.segments(), kSegmentCount);
  writer.shrink();
  EXPECT_EQ(writer.segments(), kSegmentCount) << "nothing has been read yet";
  read_bytes(kStreamBytes - kSegmentBytes);
  EXPECT_EQ(writer.refresh(), Status::kOk);
  writer.shrink();
  EXPECT_EQ(writer.segments(), kSegmentCount) << "the reader stands before the last segment";
  read_bytes(1);
  EXPECT_EQ(writer.refresh(), Status::kOk);
  writer.shrink();
  EXPECT_EQ(writer.segments(), kMinSegments);
  const std::uint64_t released = writer.take_released();
  EXPECT_EQ(__builtin_popcountll(released), 62);
  EXPECT_EQ(released & pair.a.writer_state.members, 0U);
  EXPECT_EQ(writer.take_released(), 0U);

  // What was released may be wiped, and the stream goes on, growing again.
  for (std::uint32_t i = 0; i < kSegmentCount; ++i) {
    if ((released >> i & 1) != 0) {
      std::memset(layout::segment_data(pair.a.memory.own(), i), 0, kSegmentBytes);
    }
  }
  EXPECT_EQ(read_bytes(kSegmentBytes), kSegmentBytes - 1);
  send_bytes(1000000);
  EXPECT_GT(writer.segments(), kMinSegments);
  EXPECT_EQ(read_bytes(2000000), 1000000U);
}

TEST_F(StreamGrowth, SegmentTakenBackIsNotReleased) {
  send_bytes(kStreamBytes);
  read_bytes(kStreamBytes);
  EXPECT_EQ(writer.refresh(), Status::kOk);
  writer.shrink();
  // One segment less: the reader stands at the end of the current one, which keeps its link.
  ASSERT_EQ(send_bytes(kStreamBytes), kStreamBytes - kSegmentBytes);
  EXPECT_EQ(writer.segments(), kSegmentCount);
  EXPECT_EQ(writer.take_released(), 0U);
  EXPECT_EQ(read_bytes(kStreamBytes), kStreamBytes - kSegmentBytes);
}

TEST_F(StreamGrowth, ShrinksByItselfAfterManySmallLaps) {
  send_bytes(kStreamBytes);
  read_bytes(kStreamBytes);
  for (int i = 0; i < 1100 * 2 && writer.segments() > kMinSegments; ++i) {
    ASSERT_EQ(send_bytes(kSegmentBytes / 2), kSegmentBytes / 2);
    ASSERT_EQ(read_bytes(kSegmentBytes), kSegmentBytes / 2);
  }
  EXPECT_EQ(writer.segments(), kMinSegments);
  EXPECT_EQ(__builtin_popcountll(writer.take_released()), 62);
  ASSERT_EQ(send_bytes(700000), 700000U);
  ASSERT_EQ(read_bytes(700000), 700000U);
}

TEST_F(StreamLimit, Clamped) {
  writer.set_limit(0);
  EXPECT_EQ(pair.a.writer_state.limit, 2U * kSegmentBytes);
  writer.set_limit(~std::uint64_t{0});
  EXPECT_EQ(pair.a.writer_state.limit, kStreamBytes);
  writer.set_limit(300000);
  EXPECT_EQ(pair.a.writer_state.limit, 300000U);
}

TEST_F(StreamLimit, LoweredBelowWhatIsInFlight) {
  send_bytes(kStreamBytes - 1000);
  writer.set_limit(200000);
  EXPECT_EQ(writer.space(), 0U);
  EXPECT_FALSE(writer.writable());
  EXPECT_EQ(send_bytes(1000), 0U);
  EXPECT_EQ(read_bytes(kStreamBytes - 1000 - 200000), kStreamBytes - 1000 - 200000);
  EXPECT_EQ(send_bytes(1), 0U);
  read_bytes(10);
  EXPECT_EQ(send_bytes(100), 10U);
  EXPECT_EQ(read_bytes(kStreamBytes), 200000U);
  EXPECT_EQ(send_bytes(kStreamBytes), 200000U);
  EXPECT_EQ(read_bytes(kStreamBytes), 200000U);
}

TEST_F(StreamLimit, RaisedWhileFull) {
  writer.set_limit(0);
  EXPECT_EQ(send_bytes(kStreamBytes), 131072U);
  writer.set_limit(1 << 20);
  EXPECT_TRUE(writer.writable());
  EXPECT_EQ(send_bytes(kStreamBytes), (1U << 20) - 131072U);
  EXPECT_EQ(read_bytes(kStreamBytes), 1U << 20);
}

// For each way to be full: writable() is what append() then does, and the reader's progress ends it.
TEST_F(StreamLimit, WritableAgreesWithAppend) {
  std::mt19937_64 random(5);
  for (const std::uint64_t limit :
       {std::uint64_t{131072}, std::uint64_t{131073}, std::uint64_t{400000}}) {
    Pair p(limit);
    Writer w = p.writer_a();
    Reader r = p.reader_b();
    for (int i = 0; i < kTurns; ++i) {
      ASSERT_EQ(w.refresh(), Status::kOk);
      const bool writable = w.writable();
      const std::size_t sent =
          send(w, p.a.writer_state, pattern, interesting_size(random), &status);
      if (writable) {
        ASSERT_GT(sent, 0U) << "told writable, then full";
      }
      ASSERT_EQ(r.refresh(), Status::kOk);
      if (sent == 0) {
        // The proof in reader.cc needs this much unread while a writer sleeps.
        ASSERT_FALSE(w.writable());
        ASSERT_GE(r.available(), kSegmentBytes);
      }
      r.read(buffer.data(), random() % 3 == 0 ? kSegmentBytes : interesting_size(random), &status);
      if (r.available() == 0) {
        ASSERT_EQ(w.refresh(), Status::kOk);
        ASSERT_TRUE(w.writable()) << "drained, and still full";
      }
    }
  }
}

TEST_F(StreamPeek, AnyPositionWithoutConsuming) {
  send_bytes(500000);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  std::mt19937_64 random(3);
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t skip = random() % 500100;
    std::size_t got = 0;
    while (skip + got < 500000 && got < 100000) {
      const std::size_t n = reader.copy(skip + got, buffer.data() + got, 100000 - got, &status);
      ASSERT_EQ(status, Status::kOk);
      ASSERT_GT(n, 0U);
      got += n;
    }
    EXPECT_TRUE(pattern.matches(skip, buffer.data(), got));
    if (skip >= 500000) {
      EXPECT_EQ(reader.copy(skip, buffer.data(), 1, &status), 0U);
    }
  }
  EXPECT_EQ(reader.available(), 500000U);
  EXPECT_EQ(read_bytes(kStreamBytes), 500000U);
}

TEST_F(StreamPeek, CountingAndDiscarding) {
  send_bytes(200000);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.copy(0, nullptr, 100, &status), 100U);
  EXPECT_EQ(reader.copy(0, nullptr, 200000, &status), kSegmentBytes);
  EXPECT_EQ(reader.consume(150000), Status::kOk);  // MSG_TRUNC: over two links at once
  EXPECT_EQ(reader.available(), 50000U);
  EXPECT_EQ(read_bytes(100000), 50000U);
}

TEST_F(StreamEdge, NothingToDo) {
  status = Status::kCorrupt;
  EXPECT_EQ(reader.read(buffer.data(), 0, &status), 0U);
  EXPECT_EQ(status, Status::kOk);
  status = Status::kCorrupt;
  EXPECT_EQ(writer.append(buffer.data(), 0, &status), 0U);
  EXPECT_EQ(status, Status::kOk);
  EXPECT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.available(), 0U);
  EXPECT_EQ(reader.consume(0), Status::kOk);
  writer.publish();
  EXPECT_EQ(pair.a.memory.own()->hot.head.load(), 0U);
}

// Reader at the very end of a segment whose link does not exist yet; both with an already linked
// successor (an old lap) and with one that is linked in only now.
TEST_F(StreamEdge, ReaderWaitsAtTheEndOfASegment) {
  for (int lap = 0; lap < 5; ++lap) {
    ASSERT_EQ(send_bytes(kSegmentBytes), kSegmentBytes);
    ASSERT_EQ(read_bytes(kSegmentBytes), kSegmentBytes);
    EXPECT_EQ(read_bytes(1), 0U);
    EXPECT_LE(writer.segments(), 2U + lap);
  }
  ASSERT_EQ(send_bytes(1), 1U);
  EXPECT_EQ(read_bytes(10), 1U);
}

// A segment read to its end is not free: the reader still needs its link.
TEST_F(StreamEdge, SegmentIsReusedOnlyBehindItsLink) {
  writer.set_limit(0);
  ASSERT_EQ(send_bytes(2 * kSegmentBytes), 2 * kSegmentBytes);
  ASSERT_EQ(read_bytes(kSegmentBytes), kSegmentBytes);
  EXPECT_EQ(send_bytes(1), 0U);
  EXPECT_FALSE(writer.writable());
  ASSERT_EQ(read_bytes(1), 1U);
  EXPECT_EQ(send_bytes(kSegmentBytes), kSegmentBytes);
  EXPECT_EQ(read_bytes(kStreamBytes), 2 * kSegmentBytes - 1);
}

TEST_F(StreamEdge, WritesBeforeThePeerIsKnown) {
  Writer early(pair.a.memory.own(), nullptr, &pair.a.writer_state);
  EXPECT_EQ(send(early, pair.a.writer_state, pattern, kStreamBytes + 5, &status), kStreamBytes);
  EXPECT_FALSE(early.must_ring());
  early.take_echo();
  EXPECT_EQ(early.refresh(), Status::kOk);
  EXPECT_EQ(read_bytes(kStreamBytes), kStreamBytes);
  EXPECT_EQ(send_bytes(1000000), 1000000U);
  EXPECT_EQ(read_bytes(kStreamBytes), 1000000U);
}

TEST_F(StreamEdge, AppendedBytesAreInvisibleUntilPublished) {
  pattern.fill(0, buffer.data(), 1000);
  ASSERT_EQ(writer.append(buffer.data(), 600, &status), 600U);
  ASSERT_EQ(writer.append(buffer.data() + 600, 400, &status), 400U);
  EXPECT_EQ(read_bytes(1000), 0U);
  writer.publish();
  EXPECT_EQ(read_bytes(1000), 1000U);
}

TEST_F(StreamEdge, EchoFreesSpaceLikeTheTailLine) {
  writer.set_limit(0);
  Writer answers = pair.writer_b();
  const std::uint8_t answer = 1;
  ASSERT_EQ(send_bytes(100000), 100000U);
  ASSERT_EQ(read_bytes(60000), 60000U);
  EXPECT_EQ(writer.in_flight(), 100000U);
  writer.take_echo();
  EXPECT_EQ(writer.in_flight(), 100000U) << "no answer yet, so no echo";
  ASSERT_EQ(answers.append(&answer, 1, &status), 1U);
  answers.publish();
  writer.take_echo();
  EXPECT_EQ(writer.in_flight(), 40000U);
  ASSERT_EQ(read_bytes(60000), 40000U);
  EXPECT_EQ(writer.refresh(), Status::kOk);
  writer.take_echo();  // older than what we know
  EXPECT_EQ(writer.in_flight(), 0U);
}

TEST_F(StreamEdge, FlagsComeAfterTheLastByte) {
  send_bytes(10);
  writer.set_flags(layout::kFlagFin);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.flags(), layout::kFlagFin);
  EXPECT_EQ(reader.available(), 10U) << "who sees the end sees all that comes before it";
  writer.set_flags(layout::kFlagClosed);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.flags(), layout::kFlagFin | layout::kFlagClosed);
  EXPECT_EQ(read_bytes(100), 10U);
}

}  // namespace
}  // namespace shunt::ring::test
