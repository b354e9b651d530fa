// Who lives, by a clock that the test turns, and what two drivers make of each other's absence.
#include "driver/core/liveness.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "window/output_queue.h"
#include "window/queue_reader.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;
using Change = Liveness::Change;

constexpr layout::SectionGeometry kGeometry = layout::section_geometry(1 << 16, 2);

struct Free {
  void operator()(layout::Section* s) const { std::free(s); }
};
using OwnSection = std::unique_ptr<layout::Section, Free>;

OwnSection make_section(std::uint32_t number) {
  OwnSection section(
      static_cast<layout::Section*>(std::aligned_alloc(4096, kGeometry.section_bytes)));
  std::memset(static_cast<void*>(section.get()), 0, kGeometry.section_bytes);
  section->header.identity.partition = number;
  return section;
}

class LivenessTest : public ::testing::Test {
 protected:
  Change after(std::chrono::milliseconds time) {
    now += time;
    return liveness.look(now);
  }
  // Looks each tick, as a driver does; the first change that is one.
  Change within(std::chrono::milliseconds time) {
    for (auto passed = 0ms; passed < time; passed += 100ms) {
      if (const Change change = after(100ms); change != Change::kNone) return change;
    }
    return Change::kNone;
  }
  void beat() { peer->header.life.heartbeat.fetch_add(1); }
  void state(layout::DriverState s) {
    peer->header.life.state.store(static_cast<std::uint32_t>(s));
  }
  void session(std::uint64_t s) { peer->lanes[0].generation.store(s); }
  void come() {
    session(1 << 16);
    state(layout::DriverState::kUp);
    after(100ms);
    beat();
    ASSERT_EQ(Change::kCame, after(100ms));
  }

  OwnSection peer = make_section(2);
  Liveness liveness{peer.get(), 1, 2500ms, 100ms};
  Liveness::Clock::time_point now{1h};
};

TEST_F(LivenessTest, NobodyIsThereBeforeABeat) {
  EXPECT_EQ(PeerLife::kSilent, liveness.life());
  peer->header.life.heartbeat.store(1000);  // left by a driver that was killed
  session(5 << 16);
  state(layout::DriverState::kUp);
  EXPECT_EQ(Change::kNone, within(10s));
  EXPECT_EQ(PeerLife::kSilent, liveness.life());
  EXPECT_EQ(5u << 16, liveness.session());
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
  EXPECT_EQ(PeerLife::kAlive, liveness.life());
}

TEST_F(LivenessTest, WhoBeatsButIsNotUpIsNotThere) {
  session(1 << 16);
  after(100ms);
  beat();
  EXPECT_EQ(Change::kNone, after(100ms));
  state(layout::DriverState::kUp);
  EXPECT_EQ(Change::kNone, after(100ms)) << "that beat was of before";
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
}

TEST_F(LivenessTest, SilenceIsDeathAfterTheLimitAndNotBefore) {
  come();
  EXPECT_EQ(Change::kNone, within(2500ms));
  EXPECT_EQ(Change::kDied, after(100ms));
  EXPECT_EQ(PeerLife::kDead, liveness.life());
  EXPECT_EQ(Change::kNone, within(10s));
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
}

TEST_F(LivenessTest, ABeatEachSecondIsALife) {
  come();
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(Change::kNone, within(1s));
    beat();
  }
}

TEST_F(LivenessTest, SayingDownIsDeathAtOnce) {
  come();
  state(layout::DriverState::kDown);
  beat();
  EXPECT_EQ(Change::kDied, after(1ms));
  beat();
  EXPECT_EQ(Change::kNone, after(100ms));
  state(layout::DriverState::kUp);
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
}

TEST_F(LivenessTest, ANewSessionIsToldOnceAndOnlyOfTheLiving) {
  come();
  session(0);  // the peer is at it
  EXPECT_EQ(Change::kNone, after(0ms));
  EXPECT_EQ(1u << 16, liveness.session());
  session(2 << 16);
  EXPECT_EQ(Change::kRestarted, after(0ms));
  EXPECT_EQ(Change::kNone, after(0ms));
  EXPECT_EQ(PeerLife::kAlive, liveness.life());
  session((2 << 16) + 1);
  beat();
  EXPECT_EQ(Change::kRestarted, after(100ms));
  state(layout::DriverState::kDown);
  EXPECT_EQ(Change::kDied, after(100ms));
  session(3 << 16);
  EXPECT_EQ(Change::kNone, after(0ms));
  EXPECT_EQ(3u << 16, liveness.session()) << "noted all the same";
}

TEST_F(LivenessTest, ASessionThatGoesBackIsABrokenLane) {
  come();
  session(~std::uint64_t{0});
  EXPECT_EQ(Change::kRestarted, after(0ms));
  session(1 << 16);
  beat();
  EXPECT_EQ(Change::kDied, after(100ms)) << "what is in the lane was read before";
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
}

TEST_F(LivenessTest, ABrokenLaneIsDeathUntilTheNextBeat) {
  come();
  liveness.break_lane();
  beat();
  EXPECT_EQ(Change::kDied, after(100ms));
  EXPECT_EQ(Change::kNone, after(100ms));
  beat();
  EXPECT_EQ(Change::kCame, after(100ms));
  beat();
  EXPECT_EQ(Change::kNone, after(100ms)) << "told once";
}

TEST_F(LivenessTest, NobodyComesBackBeforeATickIsOver) {
  come();
  int deaths = 0;
  for (int look = 0; look < 1000; ++look) {  // one each millisecond: the peer rings at each change
    state(look % 2 == 0 ? layout::DriverState::kDown : layout::DriverState::kUp);
    beat();
    if (after(1ms) == Change::kDied) ++deaths;
  }
  EXPECT_LE(deaths, 10);
  EXPECT_GE(deaths, 2);
}

TEST_F(LivenessTest, WhoWasAwayHimselfGivesTheOthersTheirTimeAnew) {
  come();
  EXPECT_EQ(Change::kNone, after(60s)) << "all were paused";
  EXPECT_EQ(Change::kNone, within(2500ms));
  EXPECT_EQ(Change::kDied, after(100ms)) << "but not for ever";
  beat();
  EXPECT_EQ(Change::kCame, after(60s));
  session(9 << 16);
  EXPECT_EQ(Change::kRestarted, after(60s)) << "what a session says is said all the same";
}

TEST_F(LivenessTest, AcknowledgedByWordByAbsenceOrByLongSilence) {
  constexpr std::uint64_t kMine = 7 << 16;
  const auto acknowledged = [&] { return liveness.acknowledged(kMine, now, 500ms); };
  state(layout::DriverState::kUp);
  EXPECT_FALSE(acknowledged()) << "never looked";
  after(100ms);
  EXPECT_FALSE(acknowledged());
  peer->acks[0].generation.store(kMine - 1);
  EXPECT_FALSE(acknowledged()) << "of an earlier session";
  peer->acks[0].generation.store(kMine);
  EXPECT_TRUE(acknowledged());
  peer->acks[0].generation.store(0);
  after(499ms);
  EXPECT_FALSE(acknowledged());
  after(1ms);
  EXPECT_TRUE(acknowledged()) << "nobody is there";
  beat();
  after(100ms);
  EXPECT_FALSE(acknowledged()) << "somebody is";
  state(layout::DriverState::kDown);
  EXPECT_TRUE(acknowledged());
}

// Two drivers that do what driver.cc does, with one connection that either may have.
class Side {
 public:
  Side(OwnSection& own, OwnSection& other, std::uint32_t number)
      : own_(own.get()),
        other_(other.get()),
        peer_(3 - number),
        queue_(own_, number, kGeometry, 1 << 16),
        liveness_(other_, number, 2500ms, 100ms) {
    own_->header.life.state.store(1);
  }
  void meet() {
    reader_.emplace(own_, 3 - peer_, other_, peer_, kGeometry, window::Sessions::kAsk);
  }
  void tick(Liveness::Clock::time_point now) {
    now_ = now;
    handle(liveness_.look(now));
    own_->header.life.heartbeat.fetch_add(1);
  }
  void read() {
    handle(liveness_.look(now_));
    wire::MessageBytes bytes;
    while (liveness_.life() == PeerLife::kAlive &&
           reader_->read(&bytes) == window::ReadResult::kMessage) {
      const auto message = wire::decode(bytes.data(), bytes.size()).value();
      if (message.session != queue_.session(peer_) ||
          message.from_session != reader_->producer_session()) {
        ++stale;
      } else {
        heard.push_back(message.id);
      }
    }
  }
  void say(std::uint64_t id) {
    wire::Message message;
    message.type = wire::MessageType::kStatus;
    message.id = id;
    message.session = liveness_.session();
    message.from_session = queue_.session(peer_);
    EXPECT_EQ(window::PushResult::kPushed, queue_.push(peer_, other_, wire::encode(message)));
  }
  bool connected = false;
  int deaths = 0;
  int stale = 0;
  std::vector<std::uint64_t> heard;

 private:
  void handle(Change change) {
    if (change == Change::kDied) {
      ++deaths;
      queue_.restart_lane(peer_, queue_.session(peer_) + 1);
      meet();
    }
    if (change == Change::kDied || change == Change::kRestarted) connected = false;
    reader_->follow(liveness_.session());
  }
  layout::Section* own_;
  layout::Section* other_;
  std::uint32_t peer_;
  window::OutputQueue queue_;
  Liveness liveness_;
  Liveness::Clock::time_point now_{};
  std::optional<window::QueueReader> reader_;
};

class TwoSides : public ::testing::Test {
 protected:
  void SetUp() override {
    a.meet();
    b.meet();
    run(1s, true, true);
    a.connected = b.connected = true;
    a.say(1);
    b.say(2);
    run(100ms, true, true);
    ASSERT_EQ(std::vector<std::uint64_t>{2}, a.heard);
    ASSERT_EQ(std::vector<std::uint64_t>{1}, b.heard);
    a.heard.clear();
    b.heard.clear();
  }
  void run(std::chrono::milliseconds time, bool with_a, bool with_b) {
    for (auto passed = 0ms; passed < time; passed += 100ms) {
      now += 100ms;
      if (with_a) a.tick(now), a.read();
      if (with_b) b.tick(now), b.read();
    }
  }
  void expect_in_touch() {
    a.connected = b.connected = true;
    a.say(10);
    b.say(20);
    run(1s, true, true);
    EXPECT_TRUE(a.connected && b.connected);
    ASSERT_FALSE(a.heard.empty());
    ASSERT_FALSE(b.heard.empty());
    EXPECT_EQ(20u, a.heard.back());
    EXPECT_EQ(10u, b.heard.back());
  }
  OwnSection section_a = make_section(1);
  OwnSection section_b = make_section(2);
  Side a{section_a, section_b, 1};
  Side b{section_b, section_a, 2};
  Liveness::Clock::time_point now{1h};
};

TEST_F(TwoSides, OneThatWasAwayLearnsThatItWasDeclaredDead) {
  run(5s, false, true);
  EXPECT_EQ(1, b.deaths);
  EXPECT_FALSE(b.connected);
  EXPECT_TRUE(a.connected);
  a.say(4);  // it is awake again, and has not looked yet
  a.read();
  EXPECT_FALSE(a.connected);
  a.say(5);
  run(1s, true, true);
  EXPECT_EQ(0, a.deaths);
  EXPECT_EQ((std::vector<std::uint64_t>{5}), b.heard);
  EXPECT_GE(b.stale, 1) << "what was posted before a death is not acted on after it";
  expect_in_touch();
}

TEST_F(TwoSides, PausedTogetherNothingIsLost) {
  a.say(3);
  now += 1h;
  run(1s, true, true);
  EXPECT_EQ(0, a.deaths + b.deaths);
  EXPECT_TRUE(a.connected && b.connected);
  EXPECT_EQ(std::vector<std::uint64_t>{3}, b.heard);
  expect_in_touch();
}

// Somebody writes over one word, and writes it back.
TEST_F(TwoSides, ALaneThatShowsAnotherSessionForAMomentIsNotReadAgain) {
  std::atomic<std::uint64_t>& word = section_a->lanes[1].generation;
  const std::uint64_t session = word.load();
  for (const std::uint64_t lie : {std::uint64_t{0}, session - 1, session + 1, ~std::uint64_t{0}}) {
    a.say(3);
    run(100ms, true, true);
    ASSERT_EQ(std::vector<std::uint64_t>{3}, b.heard);
    word.store(lie);
    run(100ms, true, true);
    word.store(session);
    run(1s, true, true);
    EXPECT_EQ(std::vector<std::uint64_t>{3}, b.heard) << lie;
    expect_in_touch();
    b.heard.clear();
  }
}

TEST_F(TwoSides, EachDeclaresTheOtherDead) {
  run(3s, true, false);
  EXPECT_EQ(1, a.deaths);
  a.say(3);
  run(3s, false, false);
  run(3s, false, true);  // b looks while a is away
  EXPECT_FALSE(b.connected);
  b.say(4);
  run(1s, true, true);
  EXPECT_FALSE(a.connected || b.connected);
  a.heard.clear();
  b.heard.clear();
  expect_in_touch();
}

}  // namespace
}  // namespace shunt::driver
