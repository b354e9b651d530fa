// Both ends as threads over one mapping, sleeping and ringing as the protocol says. Every byte is
// compared; a sleep that only its timeout ended is a lost wake and fails the test. Under the thread
// sanitizer this also shows that data, links and inline messages are ordered by head and tail alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ring/test_pair.h"

namespace shunt::ring::test {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kTotal = 3 << 20;
constexpr int kRoundTrips = 2000;
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kTotal = 8 << 20;
constexpr int kRoundTrips = 20000;
#else
constexpr std::uint64_t kTotal = 32 << 20;
constexpr int kRoundTrips = 20000;
#endif

// What the socket is in a real connection. A sleeper waits for a ring that came after it looked at
// the count, so a ring from before its announcement never stands in for one that is missing.
class Bell {
 public:
  std::uint64_t rings() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return rings_;
  }
  void ring() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++rings_;
    changed_.notify_all();
  }
  void sleep(std::uint64_t seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    // A deadline of the system clock: the thread sanitizer of gcc 12 does not know the other call.
    const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(10);
    if (!changed_.wait_until(lock, deadline, [&] { return rings_ != seen; })) ++lost_;
    ++sleeps_;
  }
  int lost() const { return lost_; }
  int sleeps() const { return sleeps_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t rings_ = 0;
  int lost_ = 0;
  int sleeps_ = 0;
};

struct Config {
  const char* name;
  std::uint64_t limit;
  std::size_t write_max;
  std::size_t read_max;
  bool two_threads_per_end;  // one that sends, one that receives; else one that polls for both
  bool reader_spins;         // receives as a program with a non-blocking socket, never waiting
};
std::ostream& operator<<(std::ostream& out, const Config& config) { return out << config.name; }

// One end of the connection under test: its bell, and what its threads do.
class Program {
 public:
  Program(End* own, const layout::Area* peer_area, const Config& config, std::uint64_t seed)
      : writer_(own->memory.own(), peer_area, &own->writer_state),
        reader_(own->memory.own(), peer_area, &own->reader_state),
        own_(own),
        config_(config),
        seed_(seed),
        out_pattern_(seed) {}

  void connect(Program* peer) {
    peer_ = peer;
    in_pattern_ = Pattern(peer->seed_);
  }
  Bell& bell() { return bell_; }
  bool failed() const { return failed_; }

  void send_all() {
    std::mt19937_64 random(seed_ * 3);
    while (!finished_sending_ && !failed_) {
      if (send_some(random)) continue;
      const std::uint64_t seen = bell_.rings();
      writer_.begin_wait();
      check(writer_.refresh());
      if (!writer_.writable()) bell_.sleep(seen);
      writer_.end_wait();
    }
  }

  void receive_all() {
    std::mt19937_64 random(seed_ * 5);
    while (!finished_receiving_ && !failed_) {
      if (receive_some(random) || config_.reader_spins) continue;
      const std::uint64_t seen = bell_.rings();
      reader_.begin_wait();
      check(reader_.refresh());
      if (!readable()) bell_.sleep(seen);
      reader_.end_wait();
    }
  }

  void poll_for_both() {
    std::mt19937_64 random(seed_ * 7);
    while (!(finished_sending_ && finished_receiving_) && !failed_) {
      bool progress = !finished_receiving_ && receive_some(random);
      writer_.take_echo();
      progress |= !finished_sending_ && send_some(random);
      if (progress) continue;
      const std::uint64_t seen = bell_.rings();
      if (!finished_receiving_) reader_.begin_wait();
      if (!finished_sending_) writer_.begin_wait();
      check(reader_.refresh());
      check(writer_.refresh());
      const bool ready =
          (!finished_receiving_ && readable()) || (!finished_sending_ && writer_.writable());
      if (!ready) bell_.sleep(seen);
      reader_.end_wait();
      writer_.end_wait();
    }
  }

 private:
  void check(Status status) {
    if (status != Status::kOk) fail("corrupt");
  }
  void fail(const char* what) {
    ADD_FAILURE() << what << " at " << own_->reader_state.tail << " of " << own_->reader_state.head;
    failed_ = true;
    peer_->failed_ = true;
    bell_.ring();
    peer_->bell_.ring();
  }
  bool readable() const { return reader_.available() != 0 || reader_.flags() != 0; }

  bool send_some(std::mt19937_64& random) {
    WriterState& state = own_->writer_state;
    const std::size_t size = std::min<std::uint64_t>(
        std::min(interesting_size(random), config_.write_max), kTotal - state.head);
    Status status = Status::kOk;
    const std::size_t sent = test::send(writer_, state, out_pattern_, size, &status);
    check(status);
    if (state.head == kTotal) {
      finished_sending_ = true;
      writer_.set_flags(layout::kFlagFin);
    }
    if (writer_.must_ring()) peer_->bell_.ring();
    if (random() % 64 == 0) wipe_released();
    if (random() % 256 == 0) std::this_thread::yield();
    return sent != 0;
  }

  // Memory given back may be gone at once: nobody may be looking at it any more.
  void wipe_released() {
    writer_.shrink();
    const std::uint64_t released = writer_.take_released();
    for (std::uint32_t i = 0; i < layout::kSegmentCount; ++i) {
      if ((released >> i & 1) != 0) {
        std::memset(layout::segment_data(own_->memory.own(), i), 0xdd, layout::kSegmentBytes);
      }
    }
  }

  bool receive_some(std::mt19937_64& random) {
    check(reader_.refresh());
    const std::uint64_t position = own_->reader_state.tail;
    const std::size_t size = std::min(interesting_size(random), config_.read_max);
    buffer_.resize(std::max(buffer_.size(), size));
    Status status = Status::kOk;
    const std::size_t n = reader_.read(buffer_.data(), size, &status);
    check(status);
    if (!in_pattern_.matches(position, buffer_.data(), n)) fail("wrong bytes");
    if (n != 0 && reader_.must_ring_for_space()) peer_->bell_.ring();
    if (reader_.flags() != 0 && reader_.available() == 0) {
      if (position + n != kTotal) fail("end of stream too early");
      finished_receiving_ = true;
    }
    return n != 0;
  }

  Writer writer_;
  Reader reader_;
  End* own_;
  const Config& config_;
  std::uint64_t seed_;
  Pattern out_pattern_;
  Pattern in_pattern_{0};
  std::vector<std::uint8_t> buffer_;
  Bell bell_;
  Program* peer_ = nullptr;
  bool finished_sending_ = false;
  bool finished_receiving_ = false;
  std::atomic<bool> failed_{false};
};

class Threads : public testing::TestWithParam<Config> {};

TEST_P(Threads, BothDirectionsAtOnce) {
  const Config& config = GetParam();
  Pair pair(config.limit, 0, AreaMemory::Peer::kSameAddress);
  Program a(&pair.a, pair.b.memory.peer(), config, 11);
  Program b(&pair.b, pair.a.memory.peer(), config, 22);
  a.connect(&b);
  b.connect(&a);
  std::vector<std::thread> threads;
  for (Program* program : {&a, &b}) {
    if (config.two_threads_per_end) {
      threads.emplace_back([program] { program->send_all(); });
      threads.emplace_back([program] { program->receive_all(); });
    } else {
      threads.emplace_back([program] { program->poll_for_both(); });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(a.bell().lost() + b.bell().lost(), 0) << "wakes that only a timeout rescued";
  EXPECT_EQ(pair.a.reader_state.tail, kTotal);
  EXPECT_EQ(pair.b.reader_state.tail, kTotal);
  RecordProperty("sleeps", a.bell().sleeps() + b.bell().sleeps());
}

constexpr std::size_t kAny = 1 << 20;
INSTANTIATE_TEST_SUITE_P(
    Forms, Threads,
    testing::Values(Config{"PolledSmallBuffer", 0, kAny, kAny, false, false},
                    Config{"PolledLargeBuffer", layout::kStreamBytes, kAny, kAny, false, false},
                    Config{"PolledSmallWrites", 0, 2000, kAny, false, false},
                    Config{"PolledSmallReads", 0, kAny, 2000, false, false},
                    Config{"BlockingSmallBuffer", 0, kAny, kAny, true, false},
                    Config{"BlockingMediumBuffer", 300000, kAny, kAny, true, false},
                    Config{"BlockingLargeBuffer", layout::kStreamBytes, kAny, kAny, true, false},
                    Config{"BlockingSmallReads", 0, kAny, 2000, true, false},
                    Config{"SpinningSmallReads", 0, kAny, 2000, true, true},
                    Config{"SpinningAnyReads", 200000, kAny, kAny, true, true}),
    [](const auto& each) { return std::string(each.param.name); });

// A request and an answer in turn, small enough for the hot line, each side asleep in between.
TEST(ThreadsPingPong, EveryMessageWakesTheOther) {
  Pair pair(0, 0, AreaMemory::Peer::kSameAddress);
  Bell bells[2];
  const auto play = [&](int side) {
    End& own = side == 0 ? pair.a : pair.b;
    const layout::Area* peer = side == 0 ? pair.b.memory.peer() : pair.a.memory.peer();
    Writer writer(own.memory.own(), peer, &own.writer_state);
    Reader reader(own.memory.own(), peer, &own.reader_state);
    Status status = Status::kOk;
    std::uint8_t message[layout::kInlineBytes];
    for (int i = 0; i < kRoundTrips; ++i) {
      const std::size_t size = 1 + static_cast<std::size_t>(i) % sizeof message;
      for (int turn = 0; turn < 2; ++turn) {
        if (turn == side) {
          std::memset(message, i, size);
          std::size_t sent = 0;  // append() stops at a segment's end
          while (sent < size) sent += writer.append(message + sent, size - sent, &status);
          writer.publish();
          if (writer.must_ring()) bells[1 - side].ring();
          continue;
        }
        std::size_t got = 0;
        while (got < size) {
          const std::uint64_t seen = bells[side].rings();
          reader.begin_wait();
          ASSERT_EQ(reader.refresh(), Status::kOk);
          if (reader.available() == 0) bells[side].sleep(seen);
          reader.end_wait();
          ASSERT_EQ(reader.refresh(), Status::kOk);
          writer.take_echo();
          got += reader.read(message + got, size - got, &status);
          ASSERT_EQ(status, Status::kOk);
        }
        for (std::size_t at = 0; at < size; ++at) {
          ASSERT_EQ(message[at], static_cast<std::uint8_t>(i));
        }
      }
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  EXPECT_EQ(bells[0].lost() + bells[1].lost(), 0);
}

}  // namespace
}  // namespace shunt::ring::test
