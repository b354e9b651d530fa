// A peer that writes nonsense into its own area. Allowed outcomes: kCorrupt, or bytes that the peer
// could have sent. Never an access outside the areas (guard pages, ASan), never an endless loop,
// never a change to another connection. Each lie about a stream is told to b, whose peer is a.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

using layout::kSegmentBytes;
using layout::kSegmentCount;
using layout::kStreamBytes;

struct Hostile : testing::Test {
  Pair pair;
  Writer writer = pair.writer_a();
  Reader reader = pair.reader_b();
  layout::Area* liar = pair.a.memory.own();
  Pattern pattern{9};
  Status status = Status::kOk;
  std::vector<std::uint8_t> buffer = std::vector<std::uint8_t>(kStreamBytes + 1);

  void write(std::size_t size) {
    ASSERT_EQ(send(writer, pair.a.writer_state, pattern, size, &status), size);
  }
  std::size_t read(std::size_t size) { return reader.read(buffer.data(), size, &status); }
};

TEST_F(Hostile, HeadBeyondTheWindow) {
  write(100);
  for (const std::uint64_t head :
       {kStreamBytes + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    liar->hot.head.store(head);
    EXPECT_EQ(reader.refresh(), Status::kCorrupt) << head;
    EXPECT_EQ(reader.available(), 0U) << "nothing of a lie is taken over";
  }
}

TEST_F(Hostile, HeadGoesBackwards) {
  write(1000);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  ASSERT_EQ(read(500), 500U);
  for (const std::uint64_t head : {999, 500, 499, 0}) {
    liar->hot.head.store(head);
    EXPECT_EQ(reader.refresh(), Status::kCorrupt) << head;
  }
  EXPECT_EQ(read(1000), 500U) << "what was found plausible before stays readable";
}

TEST_F(Hostile, ChangedGeneration) {
  write(1);
  liar->hot.generation.store(Pair::kGenerationA + 1);
  EXPECT_EQ(reader.refresh(), Status::kCorrupt);
}

TEST_F(Hostile, HeadWithoutSegments) {
  liar->hot.head.store(kStreamBytes);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(read(kStreamBytes), kSegmentBytes) << "the first segment is the peer's to fill";
  EXPECT_EQ(status, Status::kCorrupt) << "its link was never made";
}

TEST_F(Hostile, LinksInACycle) {
  write(5 * kSegmentBytes);
  liar->segment[2].next.store(1);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(read(kStreamBytes), 3 * kSegmentBytes);
  EXPECT_EQ(status, Status::kCorrupt);
  EXPECT_EQ(reader.copy(kSegmentBytes, buffer.data(), 1, &status), 0U);
  EXPECT_EQ(status, Status::kCorrupt);
  EXPECT_EQ(reader.consume(reader.available()), Status::kCorrupt);
}

TEST_F(Hostile, SegmentLinkedToItself) {
  write(3 * kSegmentBytes);
  liar->segment[0].next.store(0);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(read(kStreamBytes), kSegmentBytes);
  EXPECT_EQ(status, Status::kCorrupt);
}

TEST_F(Hostile, LinkOutOfRange) {
  write(3 * kSegmentBytes);
  for (const std::uint32_t next : {kSegmentCount, kSegmentCount + 1, 0x7fffffffU, 0xffffffffU}) {
    liar->segment[0].next.store(next);
    ASSERT_EQ(reader.refresh(), Status::kOk);
    EXPECT_EQ(reader.copy(kSegmentBytes, buffer.data(), 1, &status), 0U);
    EXPECT_EQ(status, Status::kCorrupt);
    EXPECT_EQ(reader.consume(kSegmentBytes + 1), Status::kCorrupt);
  }
}

TEST_F(Hostile, WrongEndLengthOrBase) {
  write(3 * kSegmentBytes);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  layout::SegmentControl& first = liar->segment[0];
  const auto corrupt = [&] {
    reader.copy(kSegmentBytes, buffer.data(), 1, &status);
    return status == Status::kCorrupt;
  };
  ASSERT_FALSE(corrupt());
  for (const std::uint32_t lie : {0U, 1U, kSegmentBytes - 1, kSegmentBytes + 1, 0xffffffffU}) {
    first.end.store(lie);
    EXPECT_TRUE(corrupt()) << "end " << lie;
    first.end.store(kSegmentBytes);
    first.length.store(lie);
    EXPECT_TRUE(corrupt()) << "length " << lie;
    first.length.store(kSegmentBytes);
    liar->segment[first.next.load()].base.store(lie);
    EXPECT_TRUE(corrupt()) << "base " << lie;
    liar->segment[first.next.load()].base.store(kSegmentBytes);
  }
  ASSERT_FALSE(corrupt());
}

TEST_F(Hostile, InlineFieldsThatLie) {
  write(80);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  // Too long, or for another position: the segment's copy is used.
  for (const int bytes : {81, 88, 89, 0x7fff, 0xffff, 0}) {
    liar->hot.inline_bytes.store(static_cast<std::uint16_t>(bytes));
    EXPECT_EQ(reader.copy(0, buffer.data(), 1000, &status), 80U) << bytes;
    EXPECT_TRUE(pattern.matches(0, buffer.data(), 80)) << bytes;
  }
  liar->hot.inline_bytes.store(80);
  for (const std::uint64_t start : {std::uint64_t{1}, ~std::uint64_t{0}, kStreamBytes}) {
    liar->hot.inline_start.store(start);
    EXPECT_EQ(reader.copy(0, buffer.data(), 1000, &status), 80U);
    EXPECT_TRUE(pattern.matches(0, buffer.data(), 80));
  }
  // Shorter than published: the peer chose these bytes, and it gets no more than it published.
  liar->hot.inline_start.store(0);
  liar->hot.inline_bytes.store(7);
  EXPECT_EQ(read(1000), 80U);
  EXPECT_EQ(reader.available(), 0U);
}

TEST_F(Hostile, TailThatLies) {
  // Here b reads a's stream and lies to a about how far it got.
  layout::Area* reading_liar = pair.b.memory.own();
  write(1000);
  ASSERT_EQ(reader.refresh(), Status::kOk);
  ASSERT_EQ(read(600), 600U);
  ASSERT_EQ(writer.refresh(), Status::kOk);
  for (const std::uint64_t tail : {std::uint64_t{1001}, std::uint64_t{599}, std::uint64_t{0},
                                   ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    reading_liar->tail.tail.store(tail);
    EXPECT_EQ(writer.refresh(), Status::kCorrupt) << tail;
    EXPECT_EQ(writer.in_flight(), 400U);
    reading_liar->hot.tail_echo.store(tail);
    writer.take_echo();
    EXPECT_EQ(writer.in_flight(), 400U) << "an impossible echo is ignored";
  }
  // Bytes appended but not yet published cannot have been read.
  ASSERT_EQ(writer.append(buffer.data(), 10, &status), 10U);
  reading_liar->tail.tail.store(1005);
  EXPECT_EQ(writer.refresh(), Status::kCorrupt);
  // append() that has to look at the tail says so too.
  EXPECT_EQ(writer.append(buffer.data(), kStreamBytes, &status), 0U);
  EXPECT_EQ(status, Status::kCorrupt);
}

TEST_F(Hostile, FreesSpaceThatItHasNotRead) {
  // Its own loss: it gets overwritten bytes, we stay inside our area and its position counts.
  for (int i = 0; i < 300; ++i) {
    ASSERT_GT(send(writer, pair.a.writer_state, pattern, 100000, &status), 0U);
    pair.b.memory.own()->tail.tail.store(pair.a.writer_state.published);
    ASSERT_EQ(status, Status::kOk);
  }
  EXPECT_EQ(reader.refresh(), Status::kCorrupt) << "head is beyond what the reader can have missed";
}

TEST_F(Hostile, UnknownFlagsAndEpochsAreHarmless) {
  liar->hot.flags.store(0xffff);
  EXPECT_EQ(reader.refresh(), Status::kOk);
  for (const std::uint32_t epoch : {0xffffffffU, 1U, 2U, 0x80000001U}) {
    pair.b.memory.own()->hot.recv_waiting.store(epoch);
    EXPECT_EQ(writer.must_ring(), epoch % 2 == 1);
    EXPECT_FALSE(writer.must_ring());
    liar->hot.send_waiting.store(epoch);
    EXPECT_EQ(reader.must_ring(), epoch % 2 == 1);
    EXPECT_FALSE(reader.must_ring());
  }
}

// The thread sanitizer would rightly report what the peer does here: it races on purpose.
#if !defined(__SANITIZE_THREAD__)

enum class Scribble { kNoise, kPlausible };

// Overwrites random words of an area until told to stop: noise anywhere, or values near those that
// are right, which get past the first checks.
void scribble(layout::Area* area, Scribble how, const std::atomic<bool>& stop, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  auto* bytes = reinterpret_cast<std::uint8_t*>(area);
  while (!stop.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 64; ++i) {
      if (how == Scribble::kNoise) {
        const std::size_t limit = random() % 4 == 0 ? layout::kAreaBytes : layout::kSegmentsOffset;
        const std::size_t at = random() % (limit / 8) * 8;
        reinterpret_cast<std::atomic<std::uint64_t>*>(bytes + at)->store(random());
        continue;
      }
      layout::SegmentControl& c = area->segment[random() % kSegmentCount];
      switch (random() % 9) {
        case 0:
          area->hot.head.fetch_add(random() % 70000);
          break;
        case 1:
          c.next.store(static_cast<std::uint32_t>(random() % (kSegmentCount + 1)));
          break;
        case 2:
          c.end.store(kSegmentBytes);
          c.length.store(kSegmentBytes);
          break;
        case 3:
          c.base.store(area->hot.head.load() / kSegmentBytes * kSegmentBytes);
          break;
        case 4:
          area->hot.inline_bytes.store(static_cast<std::uint16_t>(random() % 100));
          break;
        case 5:
          area->hot.inline_start.store(area->hot.head.load() - random() % 100);
          break;
        case 6:
          area->tail.tail.fetch_add(random() % 1000);
          break;
        case 7:
          area->hot.tail_echo.fetch_add(random() % 1000);
          break;
        default:
          area->hot.recv_waiting.fetch_add(1);
          area->hot.send_waiting.fetch_add(1);
          break;
      }
    }
  }
}

// b's connection is reset and set up again whenever a lie is found, for as long as the peer scribbles.
// Meanwhile another connection in the same thread carries on undisturbed.
void survive(Scribble how) {
  Pair attacked;
  Pair other(0);
  std::atomic<bool> stop{false};
  std::thread attacker(
      [&] { scribble(attacked.a.memory.own(), how, stop, static_cast<std::uint64_t>(how) + 1); });
  Writer writer = attacked.writer_b();
  Reader reader = attacked.reader_b();
  Writer other_writer = other.writer_a();
  Reader other_reader = other.reader_b();
  Pattern pattern(5);
  std::mt19937_64 random(77);
  std::vector<std::uint8_t> buffer(256 * 1024);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  std::uint64_t corrupt = 0;
  std::uint64_t plausible = 0;
  int wrong = 0;
  while (std::chrono::steady_clock::now() < end && wrong == 0) {
    Status status = reader.refresh();
    const std::size_t size = std::min(interesting_size(random), buffer.size());
    if (status == Status::kOk) {
      reader.copy(random() % (reader.available() + 1), buffer.data(), size, &status);
    }
    if (status == Status::kOk) plausible += reader.read(buffer.data(), size, &status);
    reader.must_ring();
    writer.take_echo();
    Status sent = Status::kOk;
    plausible += send(writer, attacked.b.writer_state, pattern, size, &sent);
    writer.must_ring();
    if (random() % 16 == 0) writer.shrink();
    wrong += attacked.b.reader_state.segment >= kSegmentCount;
    wrong += attacked.b.reader_state.offset > kSegmentBytes;
    wrong += reader.available() > kStreamBytes;
    wrong += writer.in_flight() > kStreamBytes;
    if (status == Status::kCorrupt || sent == Status::kCorrupt) {
      ++corrupt;
      attacked.b.reader_state = ReaderState{};
      attacked.b.writer_state = WriterState{};
      init_area(attacked.a.memory.own(), Pair::kGenerationA);
      attacked.a.memory.own()->hot.head.store(0);
      attacked.a.memory.own()->tail.tail.store(0);
      attacked.b.reader_state.generation = Pair::kGenerationA;
      writer.set_limit(random() % (2 * kStreamBytes));
    }
    // The neighbour: a message through, complete and right.
    const std::uint64_t position = other.b.reader_state.tail;
    const std::size_t n = send(other_writer, other.a.writer_state, pattern, size, &status);
    ASSERT_EQ(status, Status::kOk);
    ASSERT_EQ(other_reader.refresh(), Status::kOk);
    ASSERT_EQ(other_reader.read(buffer.data(), buffer.size(), &status), n);
    ASSERT_TRUE(pattern.matches(position, buffer.data(), n));
  }
  stop.store(true);
  attacker.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(corrupt, 0U);
  EXPECT_GT(plausible, 0U);
}

TEST(HostileScribble, NoiseOverTheWholeArea) { survive(Scribble::kNoise); }
TEST(HostileScribble, ValuesThatLookRight) { survive(Scribble::kPlausible); }

#endif

}  // namespace
}  // namespace shunt::ring::test
