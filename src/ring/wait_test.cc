// Sleeping and waking, step by step in one thread: every order of announce, look and publish. What
// the memory model adds is in tests/model and in threads_test.cc.
#include <gtest/gtest.h>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

using layout::kSegmentBytes;

struct Wait : testing::Test {
  Pair pair{0};  // the smallest buffer: two segments
  Writer writer = pair.writer_a();
  Reader reader = pair.reader_b();
  Pattern pattern{1};
  Status status = Status::kOk;
  std::vector<std::uint8_t> buffer = std::vector<std::uint8_t>(2 * kSegmentBytes);

  std::size_t write(std::size_t size) {
    return send(writer, pair.a.writer_state, pattern, size, &status);
  }
  std::size_t read(std::size_t size) {
    EXPECT_EQ(reader.refresh(), Status::kOk);
    return reader.read(buffer.data(), size, &status);
  }
};

TEST_F(Wait, NobodyAsleepNobodyRung) {
  write(1);
  EXPECT_FALSE(writer.must_ring());
  read(1);
  EXPECT_FALSE(reader.must_ring());
}

TEST_F(Wait, ReaderIsRungOncePerSleep) {
  for (int i = 0; i < 3; ++i) {
    reader.begin_wait();
    EXPECT_TRUE(reader.waiting());
    write(1);
    EXPECT_TRUE(writer.must_ring());
    EXPECT_FALSE(writer.must_ring()) << "rung already for this sleep";
    write(1);
    EXPECT_FALSE(writer.must_ring());
    reader.end_wait();
    EXPECT_FALSE(reader.waiting());
    EXPECT_EQ(read(10), 2U);
    write(1);
    EXPECT_FALSE(writer.must_ring()) << "nobody asleep";
    read(1);
  }
}

TEST_F(Wait, WriterIsRungOncePerSleep) {
  for (int i = 0; i < 3; ++i) {
    while (write(kSegmentBytes) != 0) {
    }
    writer.begin_wait();
    EXPECT_EQ(writer.refresh(), Status::kOk);
    EXPECT_FALSE(writer.writable());
    EXPECT_EQ(read(kSegmentBytes), kSegmentBytes);
    EXPECT_TRUE(reader.must_ring_for_space());
    EXPECT_FALSE(reader.must_ring());
    read(kSegmentBytes / 2);
    EXPECT_FALSE(reader.must_ring_for_space());
    writer.end_wait();
    EXPECT_EQ(writer.refresh(), Status::kOk);
    EXPECT_TRUE(writer.writable());
  }
}

// Published before the announcement: the look after it finds the data, no ring is needed.
TEST_F(Wait, PublishedBeforeTheAnnouncement) {
  write(5);
  EXPECT_FALSE(writer.must_ring());
  reader.begin_wait();
  EXPECT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.available(), 5U);
  reader.end_wait();
}

// Published between announcement and look: found, and a ring is left over. It must not be taken for
// the ring of the next sleep.
TEST_F(Wait, RingLeftOverDoesNotCountForTheNextSleep) {
  reader.begin_wait();
  write(5);
  EXPECT_TRUE(writer.must_ring());
  reader.end_wait();
  EXPECT_EQ(read(100), 5U);
  reader.begin_wait();
  EXPECT_EQ(reader.refresh(), Status::kOk);
  EXPECT_EQ(reader.available(), 0U);
  write(1);
  EXPECT_TRUE(writer.must_ring());
}

// Woken in vain (a ring left over, the other direction's ring) and asleep again without end_wait().
TEST_F(Wait, AnnouncedAgainWithoutAnEnd) {
  reader.begin_wait();
  write(1);
  EXPECT_TRUE(writer.must_ring());
  EXPECT_EQ(read(1), 1U);
  reader.begin_wait();
  write(1);
  EXPECT_TRUE(writer.must_ring()) << "the second announcement is a new sleep";

  while (write(kSegmentBytes) != 0) {
  }
  writer.begin_wait();
  EXPECT_EQ(read(1), 1U);
  EXPECT_TRUE(reader.must_ring());
  EXPECT_EQ(writer.refresh(), Status::kOk);
  EXPECT_FALSE(writer.writable());
  writer.begin_wait();
  EXPECT_EQ(read(1), 1U);
  EXPECT_TRUE(reader.must_ring());
}

TEST_F(Wait, EndWithoutBeginChangesNothing) {
  reader.end_wait();
  writer.end_wait();
  EXPECT_EQ(pair.b.memory.own()->hot.recv_waiting.load(), 0U);
  EXPECT_EQ(pair.a.memory.own()->hot.send_waiting.load(), 0U);
}

TEST_F(Wait, EpochsWrapAround) {
  pair.b.reader_state.wait_epoch = 0xfffffffe;
  reader.begin_wait();
  EXPECT_EQ(pair.b.memory.own()->hot.recv_waiting.load(), 0xffffffff);
  EXPECT_TRUE(writer.must_ring());
  reader.end_wait();
  EXPECT_EQ(pair.b.memory.own()->hot.recv_waiting.load(), 0U);
  EXPECT_FALSE(writer.must_ring());
  reader.begin_wait();
  EXPECT_TRUE(writer.must_ring());
}

TEST_F(Wait, FlagsWakeBothKindsOfSleepers) {
  Writer back = pair.writer_b();  // the sleeper's own outgoing stream
  reader.begin_wait();
  writer.set_flags(layout::kFlagFin);
  EXPECT_TRUE(writer.must_ring());
  // b sleeps for space too; a's reader wakes it, whatever was read.
  back.begin_wait();
  EXPECT_TRUE(pair.reader_a().must_ring());
}

// A reader that takes small pieces of what it learned of long ago must still wake the writer before
// it runs dry, and leaves it asleep only while at least half a segment is unread.
TEST_F(Wait, SmallReadsWithAStaleHeadWakeTheWriter) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, std::size_t{16383}}) {
    Pair p(0);
    Writer w = p.writer_a();
    Reader r = p.reader_b();
    send(w, p.a.writer_state, pattern, piece, &status);
    ASSERT_EQ(r.refresh(), Status::kOk);  // sees one piece only
    while (send(w, p.a.writer_state, pattern, kSegmentBytes, &status) != 0) {
    }
    w.begin_wait();
    ASSERT_EQ(w.refresh(), Status::kOk);
    ASSERT_FALSE(w.writable());
    bool rung = false;
    while (!rung) {
      if (r.available() == 0) {
        ASSERT_EQ(r.refresh(), Status::kOk);
      }
      ASSERT_GT(r.available(), 0U) << "drained without a ring";
      r.read(buffer.data(), piece, &status);
      rung = r.must_ring_for_space();
      ASSERT_TRUE(rung || p.a.writer_state.head - p.b.reader_state.tail >= kSegmentBytes / 2);
    }
  }
}

}  // namespace
}  // namespace shunt::ring::test
