// An area that is given to another connection while a peer still reads it: whatever the moment, the reader gets
// bytes of its own connection or none.
#include "ring/current.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

constexpr std::uint32_t kNext = 0xcccc7777;

// The owner of a's area gives it to another connection, whose first message is `size` bytes.
void give_anew(Pair* pair, std::size_t size) {
  init_area(pair->a.memory.own(), kNext);
  WriterState state{};
  Writer writer(pair->a.memory.own(), nullptr, &state);
  writer.set_limit(layout::kStreamBytes);
  Status status = Status::kOk;
  ASSERT_EQ(size, send(writer, state, Pattern(99), size, &status));
}

class Current : public ::testing::Test {
 protected:
  Pair pair;
  Pattern pattern{42};
  Reader reader = pair.reader_b();
  Status status = Status::kOk;
  std::vector<std::uint8_t> out = std::vector<std::uint8_t>(200000);

  void write(std::size_t size) {
    Writer writer = pair.writer_a();
    ASSERT_EQ(size, send(writer, pair.a.writer_state, pattern, size, &status));
    ASSERT_EQ(Status::kOk, reader.refresh());
  }
};

TEST_F(Current, AreaInUseIsCurrent) {
  EXPECT_TRUE(still_current(pair.a.memory.peer(), Pair::kGenerationA));
  EXPECT_FALSE(still_current(pair.a.memory.peer(), Pair::kGenerationB));
}

TEST_F(Current, GivenAnewBetweenRefreshAndCopy) {
  for (const std::size_t size : {std::size_t{10}, std::size_t{88}, std::size_t{5000}}) {
    pair.~Pair();
    new (&pair) Pair;
    write(size);
    give_anew(&pair, size);
    EXPECT_EQ(0u, reader.copy(0, out.data(), size, &status));
    EXPECT_EQ(Status::kCorrupt, status);
    EXPECT_EQ(0u, reader.read(out.data(), size, &status));
    EXPECT_EQ(Status::kCorrupt, status);
    EXPECT_EQ(0u, pair.b.reader_state.tail) << "nothing was consumed";
  }
}

TEST_F(Current, HalfGivenAnew) {
  write(5000);
  // As far as init_area has come when it clears the page.
  pair.a.memory.own()->header.generation = 0;
  EXPECT_EQ(0u, reader.copy(0, out.data(), 5000, &status));
  EXPECT_EQ(Status::kCorrupt, status);
  EXPECT_EQ(Status::kOk, reader.refresh()) << "the hot line's word is another one";
  pair.a.memory.own()->hot.generation.store(0);
  EXPECT_EQ(Status::kCorrupt, reader.refresh());
}

TEST_F(Current, GivenAnewBetweenCopyAndConsume) {
  write(5000);
  ASSERT_EQ(5000u, reader.copy(0, out.data(), 5000, &status));
  give_anew(&pair, 5000);
  EXPECT_TRUE(pattern.matches(0, out.data(), 5000)) << "copied in time: bytes of this connection";
  EXPECT_EQ(Status::kOk, reader.consume(5000));
  EXPECT_EQ(Status::kCorrupt, reader.refresh());
}

TEST_F(Current, GivenAnewBetweenTwoSegments) {
  write(2 * layout::kSegmentBytes);
  ASSERT_EQ(layout::kSegmentBytes, reader.read(out.data(), layout::kSegmentBytes, &status));
  give_anew(&pair, 2 * layout::kSegmentBytes);
  EXPECT_EQ(0u, reader.read(out.data(), layout::kSegmentBytes, &status));
  EXPECT_EQ(Status::kCorrupt, status);
}

TEST_F(Current, CountingDoesNotLook) {
  write(5000);
  give_anew(&pair, 5000);
  EXPECT_EQ(5000u, reader.copy(0, nullptr, 5000, &status)) << "no byte is used";
}

// The words that a reader looks at are those of init_area: nothing of an earlier connection is left behind it.
TEST_F(Current, NothingOfTheEarlierConnectionIsLeft) {
  write(70000);
  reader.begin_wait();
  layout::Area* area = pair.a.memory.own();
  area->switch_line.plain.store(layout::kPlain);
  area->fate_line.fate.store(layout::kFateReset);
  area->hot.recv_waiting.store(3);
  area->hot.flags.store(layout::kFlagFin);
  AreaMemory fresh(AreaMemory::Peer::kReadOnlyMapping);
  init_area(fresh.own(), kNext);
  init_area(area, kNext);
  EXPECT_EQ(0, std::memcmp(fresh.bytes(), pair.a.memory.bytes(), layout::kSegmentsOffset));
}

// One thread gives an area to connection after connection, each of which sends one byte value over and over; the
// other reads what it finds for the connection it was last told of.
TEST(CurrentThreads, NoByteOfAnotherConnection) {
  AreaMemory given(AreaMemory::Peer::kReadOnlyMapping);
  AreaMemory own(AreaMemory::Peer::kReadOnlyMapping);
  std::atomic<std::uint32_t> told{0};
  std::atomic<bool> over{false};
  std::thread owner([&] {
    std::vector<std::uint8_t> data(layout::kSegmentBytes);
    for (std::uint32_t life = 1; !over.load(std::memory_order_relaxed); ++life) {
      init_area(given.own(), life);
      WriterState state{};
      Writer writer(given.own(), nullptr, &state);
      writer.set_limit(layout::kStreamBytes);
      std::memset(data.data(), static_cast<int>(life & 0xff), data.size());
      told.store(life, std::memory_order_release);
      Status status = Status::kOk;
      for (std::uint32_t i = 0; i < 2 + life % 5; ++i) {
        writer.append(data.data(), i % 2 == 0 ? 40 : data.size(), &status);
        writer.publish();
        if (life % 64 == 0) std::this_thread::yield();
      }
    }
  });

  std::uint64_t bytes = 0;
  std::uint64_t caught = 0;
  std::uint64_t foreign = 0;
  std::vector<std::uint8_t> out(layout::kSegmentBytes);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (std::chrono::steady_clock::now() < end) {
    ReaderState state{};
    state.generation = told.load(std::memory_order_acquire);
    if (state.generation == 0) continue;
    Reader reader(own.own(), given.peer(), &state);
    const auto expected = static_cast<std::uint8_t>(state.generation & 0xff);
    for (int round = 0; round < 50; ++round) {
      Status status = reader.refresh();
      std::size_t n = 0;
      if (status == Status::kOk) n = reader.read(out.data(), out.size(), &status);
      for (std::size_t i = 0; i < n; ++i) foreign += out[i] != expected;
      bytes += n;
      if (status == Status::kOk) continue;
      ++caught;
      break;
    }
  }
  over.store(true);
  owner.join();
  EXPECT_EQ(0u, foreign);
  EXPECT_GT(bytes, 0u);
  EXPECT_GT(caught, 0u);
}

}  // namespace
}  // namespace shunt::ring::test
