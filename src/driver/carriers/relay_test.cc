// Connections over a window on a device: what passes the bells, and how they end. Programs and listeners speak the
// protocol by hand; the drivers are processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <thread>

#include "driver/carriers/relay_support_test.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;
using wire::Reason;

constexpr std::uint32_t number(Reason r) { return static_cast<std::uint32_t>(r); }

TEST_F(Relay, AreasAreCleanAndApart) {
  auto first = connect();
  auto second = connect();
  EXPECT_EQ(layout::kAreaMagic, first->a->header.magic);
  EXPECT_EQ(0u, first->a->hot.head.load());
  first->a->hot.head.store(1);
  first->b->hot.head.store(2);
  second->a->hot.head.store(3);
  second->b->hot.head.store(4);
  EXPECT_EQ(1u, first->a_at_b->hot.head.load());
  EXPECT_EQ(2u, first->b_at_a->hot.head.load());
  EXPECT_EQ(3u, second->a_at_b->hot.head.load());
  EXPECT_EQ(4u, second->b_at_a->hot.head.load());
  EXPECT_EQ(2u, areas(0).areas_used);
  first->close_a();
  first->close_b();
  second->close_b();
  second->close_a();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, TheProgramClosesFirst) {
  auto pair = connect();
  pair->close_a();
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFatePeerClosed, pair->fate_b());
  EXPECT_EQ(1u, areas(0).areas_used) << "the listener may still read";
  pair->close_b();
  EXPECT_TRUE(all_free());
  EXPECT_EQ(0u, areas(0).links_reset + areas(1).links_reset);
}

TEST_F(Relay, TheListenerClosesFirst) {
  auto pair = connect();
  pair->close_b();
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_EQ(layout::kFatePeerClosed, pair->fate_a());
  pair->close_a();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, BothCloseAtOnce) {
  for (int i = 0; i < 50; ++i) {
    auto pair = connect();
    std::thread other([&] { pair->close_b(); });
    pair->close_a();
    other.join();
  }
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, ClosedBeforeItWasAccepted) {
  auto pair = ask();
  pair->close_a();
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFatePeerClosed, pair->fate_b()) << "as with TCP, it can be accepted and read";
  pair->close_b();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, AListenerThatNeverAcceptsResets) {
  auto pair = ask();
  pair->close_b();
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  pair->close_a();
  EXPECT_TRUE(all_free());
}

// A thread of the program is still at it, or a child: the bell is gone and the mapping is not.
TEST_F(Relay, AnAreaIsNotUsedAgainWhileAnybodyMapsIt) {
  auto pair = connect();
  pair->program.bell.reset();
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended) << "the end is told at once";
  pair->close_b();
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(1u, areas(0).areas_used) << "mapped by its own program";
  EXPECT_EQ(1u, areas(1).areas_used) << "mapped by the other program";
  pair->b_at_a = FakeArea();
  EXPECT_TRUE(eventually([&] { return areas(1).areas_used == 0; }));
  EXPECT_EQ(1u, areas(0).areas_used);
  pair->a = FakeArea();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, RingsBeforeConnectedArriveBehindIt) {
  auto pair = ask();
  ring_bell(pair->program.bell.get());
  EXPECT_EQ(1, read_bell(pair->arrived.bell(), rung).rings);
  wire::Message connected;
  connected.type = wire::MessageType::kConnected;
  connected.generation = pair->arrived.connect.own_generation;
  connected.area = pair->arrived.connect.own;
  auto bytes = wire::encode(connected);
  // In two halves, and with a ring right behind: read_bell() minds the order.
  ASSERT_EQ(100, ::write(pair->arrived.bell(), bytes.data(), 100));
  std::this_thread::sleep_for(20ms);
  std::vector<std::uint8_t> rest(bytes.begin() + 100, bytes.end());
  rest.push_back(wire::kRing);
  ASSERT_EQ(157, ::write(pair->arrived.bell(), rest.data(), rest.size()));
  const BellNews news = read_bell(pair->program.bell.get(), rung);
  EXPECT_TRUE(news.message.has_value());
  EXPECT_EQ(1, news.rings);
}

TEST_F(Relay, ManyRingsAreFewMessages) {
  auto pair = connect();
  const std::uint64_t before = counters(0).messages_sent;
  const std::vector<std::uint8_t> rings(100, wire::kRing);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(100, ::send(pair->program.bell.get(), rings.data(), rings.size(), 0));
  }
  EXPECT_TRUE(eventually([&] { return areas(0).rings_relayed >= 10000; }));
  EXPECT_GE(read_bell(pair->arrived.bell(), rung).rings, 1);
  EXPECT_LT(counters(0).messages_sent - before, 1000u);
}

class RelayWithShortLanes : public Relay {
 protected:
  void SetUp() override { begin(1 << 16); }
};

TEST_F(RelayWithShortLanes, NoRingIsLostWhenTheLaneIsFull) {
  constexpr int kLinks = 80;
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < kLinks; ++i) pairs.push_back(connect());
  b->signal(SIGSTOP);
  const std::uint64_t before = counters(0).messages_sent;
  const auto end = std::chrono::steady_clock::now() + 1s;
  while (std::chrono::steady_clock::now() < end) {
    for (const auto& pair : pairs) {
      ::send(pair->program.bell.get(), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  }
  EXPECT_EQ(sections[0]->geometry().lane_entries, counters(0).messages_sent - before)
      << "the lane is not full";
  b->signal(SIGCONT);
  for (const auto& pair : pairs) EXPECT_GE(read_bell(pair->arrived.bell(), rung).rings, 1);
  // And all of it is over at some time: a ring now is heard at once, by each.
  for (const auto& pair : pairs) {
    ring_bell(pair->program.bell.get());
    EXPECT_GE(read_bell(pair->arrived.bell(), rung).rings, 1);
  }
  EXPECT_EQ(0u, areas(0).links_reset + areas(1).links_reset);
}

TEST_F(Relay, ABellThatSpeaksIsReset) {
  auto pair = connect();
  ASSERT_EQ(5, ::write(pair->program.bell.get(), "hello", 5));
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  EXPECT_EQ(layout::kFateReset, pair->fate_b());
  EXPECT_EQ(1u, areas(0).bells_bad);
  pair->close_a();
  pair->close_b();

  auto listener_lies = ask();
  ASSERT_EQ(300, ::write(listener_lies->arrived.bell(), std::string(300, 'S').data(), 300));
  EXPECT_TRUE(read_bell(listener_lies->program.bell.get(), ended).ended);
  EXPECT_EQ(layout::kFateReset, listener_lies->fate_a());
  listener_lies->close_a();
  listener_lies->close_b();

  auto half_shut = connect();
  ASSERT_EQ(0, ::shutdown(half_shut->program.bell.get(), SHUT_WR));
  EXPECT_TRUE(read_bell(half_shut->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFateReset, half_shut->fate_b());
  half_shut->close_a();
  half_shut->close_b();
  EXPECT_TRUE(all_free());
  expect_honest_service();
}

TEST_F(Relay, TheOwnDriverDiesAndBothEndsSeeAReset) {
  auto pair = connect();
  b->kill_hard();
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFateOpen, pair->fate_b()) << "a bell that ends with an open fate is a reset";
  b = start("b");
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended) << "a new session tells, not time";
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  EXPECT_EQ(1u, areas(1).areas_used) << "still mapped, in the new driver's first look";
  EXPECT_EQ(1u, areas(1).areas_lingering);
  expect_honest_service();
  pair->close_a();
  pair->close_b();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, ASilentDriverIsDeadAndWhatItHadIsReset) {
  restart("1500");
  auto pair = connect();
  b->kill_hard();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  EXPECT_EQ(1u, areas(0).peers_declared_dead);
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(listener->address));
  pair->close_a();
  EXPECT_TRUE(eventually([&] { return areas(0).areas_used == 0; }));
}

// The whole system is away for longer than it takes to be declared dead, and comes back.
TEST_F(Relay, ADriverThatWasPausedLearnsThatItsConnectionsAreOver) {
  restart("1500");
  auto pair = connect();
  b->signal(SIGSTOP);
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  b->signal(SIGCONT);
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFateReset, pair->fate_b());
  EXPECT_EQ(0u, areas(1).peers_declared_dead) << "it was away itself";
  pair->close_a();
  pair->close_b();
  EXPECT_TRUE(eventually([&] { return FakeProgram(dir).ask(listener->address) == kQueued; }));
}

TEST_F(Relay, DriversKilledAtEachStepLeaveNothingBehind) {
  for (int step = 0; step < 6; ++step) {
    SCOPED_TRACE(step);
    auto& victim = step % 2 == 0 ? a : b;
    {
      auto pair = ask();
      if (step >= 2) accept(*pair);
      if (step >= 4) pair->close_b();
      victim->kill_hard();
      victim = start(step % 2 == 0 ? "a" : "b");
    }
    EXPECT_TRUE(all_free());
    listener = std::make_unique<FakeListener>();
    expect_honest_service();
    EXPECT_TRUE(all_free());
  }
}

TEST_F(Relay, RequestsOfADriverThatHangsAreRecalled) {
  b->signal(SIGSTOP);
  {
    FakeProgram program(dir);
    EXPECT_EQ(number(Reason::kPeerDriverDown), program.ask(listener->address)) << "out of time";
  }
  EXPECT_EQ(1u, areas(0).areas_used) << "b may hand it over yet";
  b->signal(SIGCONT);
  {
    FakeListener::Arrived late = listener->accept();
    EXPECT_EQ("", read_bytes(late.bell(), 1));
    EXPECT_EQ("", read_bytes(late.rendezvous.get(), 1)) << "nobody waits for an answer";
  }
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, RefusalsGiveTheAreasBack) {
  EXPECT_EQ(number(Reason::kNoListener), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressC, 9)));
  const FakeListener full(kAddressB, 0);
  std::deque<FakeProgram> programs;
  std::uint32_t reason = kQueued;
  for (int i = 0; i < 3 && reason == kQueued; ++i) {
    programs.emplace_back(dir);
    reason = programs.back().ask(full.address);
  }
  EXPECT_EQ(number(Reason::kBacklogFull), reason);
  EXPECT_TRUE(eventually([&] { return areas(0).areas_used == programs.size() - 1; }));
}

TEST_F(Relay, NoMoreConnectionsThanAreas) {
  std::vector<std::unique_ptr<Pair>> pairs;
  std::uint32_t reason = kQueued;
  for (int i = 0; i < 200 && reason == kQueued; ++i) {
    auto pair = std::make_unique<Pair>(dir);
    reason = pair->program.ask(listener->address);
    if (reason == kQueued) pairs.push_back(std::move(pair));
  }
  EXPECT_EQ(number(Reason::kBacklogFull), reason) << "what is left is partition c's share";
  EXPECT_EQ(kAreas / 4 * 3, pairs.size());
  EXPECT_GE(areas(0).quota_refused + areas(1).quota_refused, 1u);
  for (std::size_t i = 0; i < pairs.size(); ++i) listener->accept();
  pairs.clear();
  EXPECT_TRUE(all_free());
}

TEST_F(Relay, WhoseProgramsMayUseTheWindow) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  std::filesystem::permissions(base, std::filesystem::perms(0755));
  const auto ask_as_nobody = [&] {
    EXPECT_EQ(0, ::seteuid(65534));
    FakeProgram program(dir);
    EXPECT_EQ(0, ::seteuid(0));
    return program.ask(listener->address);
  };
  EXPECT_EQ(number(Reason::kNotAllowed), ask_as_nobody());
  a.reset();
  a = std::make_unique<DriverProcess>(spec, "a", layout::NotifyMode::kPoll,
                                      std::vector<std::string>{"--allow", "65534"});
  EXPECT_EQ(kQueued, ask_as_nobody());
  // And whose may listen.
  EXPECT_EQ(0, ::seteuid(65534));
  const FakeListener of_nobody(kAddressB);
  EXPECT_EQ(0, ::seteuid(0));
  EXPECT_EQ(number(Reason::kNotAllowed), FakeProgram(dir).ask(of_nobody.address));
}

TEST_F(Relay, AWindowThatIsUnmadeIsLeftByItsDrivers) {
  auto pair = connect();
  const window::UniqueFd file(::open(spec.c_str(), O_WRONLY | O_CLOEXEC));
  const std::vector<std::uint8_t> nothing(
      layout::kDeviceHeadBytes);  // as `shunt window destroy` leaves it
  ASSERT_EQ(static_cast<ssize_t>(nothing.size()),
            ::pwrite(file.get(), nothing.data(), nothing.size(), 0));
  for (DriverProcess* driver : {a.get(), b.get()}) {
    const int status = driver->wait();
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(1, WEXITSTATUS(status));
  }
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
}

}  // namespace
}  // namespace shunt::driver
