// Both sides of the output queue over two sections in ordinary memory, and producers and readers
// that lie. Each lie must cost at most the lane it is told in.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "window/output_queue.h"
#include "window/queue_reader.h"

namespace shunt::window {
namespace {

constexpr std::uint32_t kA = 1;
constexpr std::uint32_t kB = 2;

struct FreeDeleter {
  void operator()(layout::Section* s) const { std::free(s); }
};
using SectionMemory = std::unique_ptr<layout::Section, FreeDeleter>;

SectionMemory make_section(const layout::SectionGeometry& g, std::uint32_t number) {
  void* memory = std::aligned_alloc(4096, g.section_bytes);
  std::memset(memory, 0, g.section_bytes);
  SectionMemory s(static_cast<layout::Section*>(memory));
  s->header.identity.partition = number;
  return s;
}

wire::MessageBytes message(std::uint64_t id) {
  wire::Message m;
  m.id = id;
  return wire::encode(m);
}

std::uint64_t id_of(const wire::MessageBytes& bytes) {
  const auto m = wire::decode(bytes.data(), bytes.size());
  return m.ok() ? m.value().id : ~std::uint64_t{0};
}

class QueueTest : public ::testing::Test {
 protected:
  // The smallest geometry, so that a buffer overrun leaves the allocation (and ASan sees it).
  layout::SectionGeometry g = layout::section_geometry(layout::section_bytes_min(2), 2);
  SectionMemory a = make_section(g, kA);
  SectionMemory b = make_section(g, kB);
  wire::MessageBytes bytes{};

  layout::LaneEntry* entry(std::uint64_t position) {
    return layout::lane_entry(a.get(), g, kB - 1, position);
  }
};

TEST_F(QueueTest, MessagesArriveInOrderAroundTheRing) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  EXPECT_FALSE(reader.has_news());
  for (std::uint64_t i = 0; i < 10 * g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(i)));
    ASSERT_TRUE(reader.has_news());
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
    ASSERT_EQ(i, id_of(bytes));
    ASSERT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  }
}

TEST_F(QueueTest, EntriesIdentifyBuffersInTheProducersSection) {
  OutputQueue queue(a.get(), kA, g, 1);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(5)));
  const std::uint64_t offset = entry(0)->offset.load();
  EXPECT_GE(offset, g.buffers_offset(kB - 1));
  EXPECT_LE(offset + wire::kMessageBytes, g.section_bytes);
  EXPECT_EQ(wire::kMessageBytes, entry(0)->length.load());
  EXPECT_EQ(0, std::memcmp(layout::section_data(a.get(), offset), message(5).data(), 256));
}

TEST_F(QueueTest, FullLaneHoldsBackUntilTheReaderReads) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(i)));
  }
  EXPECT_EQ(PushResult::kFull, queue.room(kB, b.get()));
  EXPECT_EQ(PushResult::kFull, queue.push(kB, b.get(), message(99)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(0u, id_of(bytes));
  EXPECT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(g.lane_entries)));
  EXPECT_EQ(PushResult::kFull, queue.push(kB, b.get(), message(99)));
}

TEST_F(QueueTest, RestartedProducerBeginsAnEmptyLane) {
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  {
    OutputQueue queue(a.get(), kA, g, 1);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(7)));
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  }
  OutputQueue queue(a.get(), kA, g, 2);
  EXPECT_TRUE(reader.has_news());  // the generation
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  EXPECT_FALSE(reader.has_news());
  // The old acknowledgement does not count for the new life: a whole ring fits.
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(i)));
  }
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
    ASSERT_EQ(i, id_of(bytes));
  }
}

TEST_F(QueueTest, RestartedReaderSkipsWhatWasMeantForItsEarlierLife) {
  OutputQueue queue(a.get(), kA, g, 1);
  { QueueReader reader(b.get(), kB, a.get(), kA, g); }
  for (int i = 0; i < 5; ++i) ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(2u, id_of(bytes));
}

TEST_F(QueueTest, LaneOfADriverThatNeverRanIsEmpty) {
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  a->lanes[kB - 1].head.store(3);
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
}

TEST_F(QueueTest, HeadBeyondTheRingBreaksTheLaneUntilTheNextGeneration) {
  for (const std::uint64_t lie : {std::uint64_t{9}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    auto queue = std::make_unique<OutputQueue>(a.get(), kA, g, lie);
    QueueReader reader(b.get(), kB, a.get(), kA, g);
    a->lanes[kB - 1].head.store(lie);
    EXPECT_EQ(ReadResult::kBadLane, reader.read(&bytes));
    EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
    EXPECT_FALSE(reader.has_news());  // no reason to stay awake
    queue = std::make_unique<OutputQueue>(a.get(), kA, g, lie - 1);
    ASSERT_EQ(PushResult::kPushed, queue->push(kB, b.get(), message(3)));
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
    EXPECT_EQ(3u, id_of(bytes));
  }
}

TEST_F(QueueTest, HeadThatGoesBackBreaksTheLane) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  a->lanes[kB - 1].head.store(0);
  EXPECT_EQ(ReadResult::kBadLane, reader.read(&bytes));
}

TEST_F(QueueTest, OffsetsOutsideTheBuffersAreSkipped) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  const std::uint64_t lies[] = {0,
                                g.buffers_offset(0) - 1,
                                g.buffers_end() - 255,
                                g.section_bytes,
                                g.section_bytes - 1,
                                ~std::uint64_t{0},
                                ~std::uint64_t{0} - 255,
                                std::uint64_t{1} << 63};
  std::uint64_t position = 0;
  for (const std::uint64_t lie : lies) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
    entry(position++)->offset.store(lie);
    EXPECT_EQ(ReadResult::kBadEntry, reader.read(&bytes)) << lie;
  }
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(4)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(4u, id_of(bytes));
}

TEST_F(QueueTest, WrongLengthsAreSkipped) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  std::uint64_t position = 0;
  for (const std::uint32_t lie : {0u, 1u, 255u, 257u, 0x80000000u, 0xffffffffu}) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
    entry(position++)->length.store(lie);
    EXPECT_EQ(ReadResult::kBadEntry, reader.read(&bytes)) << lie;
  }
}

TEST_F(QueueTest, ReaderThatAcknowledgesTheFutureIsNotBelieved) {
  OutputQueue queue(a.get(), kA, g, 1);
  layout::LaneAck& ack = b->acks[kA - 1];
  ack.generation.store(1);
  for (const std::uint64_t lie : {std::uint64_t{1}, ~std::uint64_t{0} >> 1}) {
    ack.tail.store(lie);
    EXPECT_EQ(PushResult::kBadAck, queue.push(kB, b.get(), message(1)));
  }
  ack.tail.store(0);
  EXPECT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  ack.generation.store(77);  // of some other life: counts as nothing read
  ack.tail.store(1000);
  EXPECT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
}

// What a section says of its own number can be overwritten at any time; an index made of it would lead far outside.
TEST_F(QueueTest, TheNumberInTheSectionDoesNotCount) {
  a->header.identity.partition = 1U << 30;
  b->header.identity.partition = 0;
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(5)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(5u, id_of(bytes));
  EXPECT_EQ(1u, b->acks[kA - 1].tail.load());
}

TEST_F(QueueTest, OneLaneStartsAgain) {
  OutputQueue queue(a.get(), kA, g, 1 << 16);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  EXPECT_EQ(1u << 16, reader.producer_session());
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  }
  EXPECT_EQ(PushResult::kFull, queue.room(kB, b.get()));
  const std::uint64_t other = a->lanes[kA - 1].generation.load();
  queue.restart_lane(kB, (1 << 16) + 1);
  EXPECT_EQ((1u << 16) + 1, queue.session(kB));
  EXPECT_EQ(1u << 16, queue.session(kA));
  EXPECT_EQ(other, a->lanes[kA - 1].generation.load()) << "the other lanes are left alone";
  EXPECT_EQ(PushResult::kPushed, queue.room(kB, b.get())) << "what was unread is gone";
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
  EXPECT_TRUE(reader.new_session());
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(2u, id_of(bytes));
  EXPECT_FALSE(reader.new_session());
  EXPECT_EQ((1u << 16) + 1, reader.producer_session());
}

TEST_F(QueueTest, ReaderThatAsksAcknowledgesASessionOnlyWhenTold) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  const layout::LaneAck& ack = b->acks[kA - 1];
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  reader.follow(7);
  EXPECT_EQ(1u, ack.tail.load()) << "it is followed already";
  queue.restart_lane(kB, 8);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
  EXPECT_TRUE(reader.new_session());
  EXPECT_TRUE(reader.has_news());
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  EXPECT_EQ(7u, ack.generation.load());
  EXPECT_EQ(7u, reader.producer_session());
  reader.follow(8);
  EXPECT_EQ(8u, ack.generation.load());
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes)) << "from the first message on";
  EXPECT_EQ(2u, id_of(bytes));
}

TEST_F(QueueTest, WhatIsFollowedIsWhatWasSeenNotWhatIsThereByNow) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  queue.restart_lane(kB, 9);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  reader.follow(8);
  EXPECT_EQ(8u, reader.producer_session()) << "9 was not there yet when the caller looked";
  EXPECT_EQ(8u, b->acks[kA - 1].generation.load());
  EXPECT_TRUE(reader.new_session());
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  reader.follow(9);
  EXPECT_EQ(ReadResult::kMessage, reader.read(&bytes));
}

TEST_F(QueueTest, ALaneThatIsBeingEmptiedIsNoNews) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  a->lanes[kB - 1].generation.store(0);
  EXPECT_FALSE(reader.has_news()) << "a driver would look again and again";
  EXPECT_FALSE(reader.new_session());
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
}

TEST_F(QueueTest, BothEndsMendWhatOthersNeed) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  }
  b->acks[kA - 1].generation.store(99);
  b->acks[kA - 1].tail.store(99);
  EXPECT_EQ(PushResult::kFull, queue.room(kB, b.get())) << "and would stay so";
  reader.mend();
  EXPECT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
  a->lanes[kB - 1].head.store(99999);
  queue.mend();
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(2u, id_of(bytes));
}

TEST_F(QueueTest, AcknowledgementsOfTheFormerSessionDoNotCount) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  for (int i = 0; i < 3; ++i) ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  queue.restart_lane(kB, 8);
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(i)));
  }
  EXPECT_EQ(PushResult::kFull, queue.room(kB, b.get()));
  reader.follow(8);
  for (std::uint64_t i = 0; i < g.lane_entries; ++i) {
    ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
    ASSERT_EQ(i, id_of(bytes));
  }
}

TEST_F(QueueTest, BrokenLaneIsSoundAgainInTheNextSession) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  a->lanes[kB - 1].head.store(~std::uint64_t{0});
  EXPECT_EQ(ReadResult::kBadLane, reader.read(&bytes));
  EXPECT_FALSE(reader.new_session());
  queue.restart_lane(kB, 8);
  reader.follow(8);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(3)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
}

// A lane whose session vanishes and comes back is read on, not again.
TEST_F(QueueTest, NothingIsReadTwiceBehindASessionThatShowedZero) {
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(1)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  a->lanes[kB - 1].generation.store(0);
  EXPECT_FALSE(reader.new_session());
  EXPECT_FALSE(reader.has_news());
  reader.follow(0);
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  a->lanes[kB - 1].generation.store(7);
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(2)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(2u, id_of(bytes));
}

TEST_F(QueueTest, ALaneThatIsNotReadHasNoNews) {
  a->lanes[kB - 1].head.store(5);  // of a producer that never began
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  a->lanes[kB - 1].head.store(6);
  EXPECT_FALSE(reader.has_news());
  a->lanes[kB - 1].generation.store(7);
  EXPECT_TRUE(reader.has_news());
  reader.follow(7);
  a->lanes[kB - 1].generation.store(8);  // while the caller looked
  EXPECT_EQ(ReadResult::kEmpty, reader.read(&bytes));
  EXPECT_EQ(7u, reader.producer_session());
}

// On a device others can write it.
TEST_F(QueueTest, WhatASectionSaysOfItselfIsNotBelieved) {
  for (const auto& section : {a.get(), b.get()}) section->header.identity.partition = 0xffffffff;
  OutputQueue queue(a.get(), kA, g, 7);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  ASSERT_EQ(PushResult::kPushed, queue.push(kB, b.get(), message(3)));
  ASSERT_EQ(ReadResult::kMessage, reader.read(&bytes));
  EXPECT_EQ(7u, b->acks[kA - 1].generation.load());
}

// A producer that starts its lane again and again while it is read: no message of one session is ever taken for
// one of another.
TEST_F(QueueTest, RestartsWhileBeingRead) {
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g, Sessions::kAsk);
  std::atomic<bool> over{false};
  std::thread producer([&] {
    for (std::uint64_t session = 2; !over.load(); ++session) {
      queue.restart_lane(kB, session);
      for (int i = 0; i < 20; ++i) queue.push(kB, b.get(), message(session));
      if (session % 16 == 0) std::this_thread::yield();
    }
  });
  std::uint64_t messages = 0;
  std::uint64_t wrong = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
  while (std::chrono::steady_clock::now() < end) {
    reader.follow(a->lanes[kB - 1].generation.load());
    if (reader.read(&bytes) != ReadResult::kMessage) continue;
    ++messages;
    if (id_of(bytes) != reader.producer_session()) ++wrong;
  }
  over.store(true);
  producer.join();
  EXPECT_GT(messages, 0u);
  EXPECT_EQ(0u, wrong);
}

TEST_F(QueueTest, TwoThreadsPassEveryMessageOnce) {
  constexpr std::uint64_t kMessages = 20000;
  OutputQueue queue(a.get(), kA, g, 1);
  QueueReader reader(b.get(), kB, a.get(), kA, g);
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < kMessages;) {
      if (queue.push(kB, b.get(), message(i)) == PushResult::kPushed) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < kMessages;) {
    const ReadResult result = reader.read(&bytes);
    if (result == ReadResult::kEmpty) {
      std::this_thread::yield();
      continue;
    }
    if (result != ReadResult::kMessage || id_of(bytes) != i) ++wrong;
    ++i;
  }
  producer.join();
  EXPECT_EQ(0u, wrong);
}

}  // namespace
}  // namespace shunt::window
