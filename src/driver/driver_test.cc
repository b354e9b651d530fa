// Two drivers as processes, a program at one and a listener at the other, in both notify modes.
#include "driver/driver.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <thread>

#include "driver/support_test.h"
#include "window/section_file.h"

namespace shunt::driver {
namespace {

using wire::Reason;

constexpr std::uint32_t number(Reason r) { return static_cast<std::uint32_t>(r); }

INSTANTIATE_TEST_SUITE_P(Window, EachSetting,
                         ::testing::Values(Setting{Kind::kDirectory, layout::NotifyMode::kPoll},
                                           Setting{Kind::kDirectory,
                                                   layout::NotifyMode::kInterrupt},
                                           Setting{Kind::kDevice, layout::NotifyMode::kPoll},
                                           Setting{Kind::kDevice, layout::NotifyMode::kInterrupt}),
                         setting_name);

// What holds between partitions of one kernel only.
class OneKernel : public EachSetting {};
INSTANTIATE_TEST_SUITE_P(Directory, OneKernel,
                         ::testing::Values(Setting{Kind::kDirectory, layout::NotifyMode::kPoll},
                                           Setting{Kind::kDirectory,
                                                   layout::NotifyMode::kInterrupt}),
                         setting_name);

TEST_P(EachSetting, ProgramReachesListenerOfTheOtherPartition) {
  const auto a = start("a");
  const auto b = start("b");
  FakeListener listener;
  FakeProgram program(dir);
  const std::uint16_t port = port_of(program.reserved.get());
  ASSERT_EQ(kQueued, program.ask(listener.address));

  FakeListener::Arrived arrived = listener.accept();
  EXPECT_EQ(wire::MessageType::kConnect, arrived.connect.type);
  EXPECT_EQ(wire::kViaDriver, arrived.connect.flags);
  EXPECT_EQ(endpoint(kAddressA, port), arrived.connect.source);
  EXPECT_EQ(listener.address, arrived.connect.destination);
  EXPECT_EQ(1u, arrived.connect.partition);
  ASSERT_EQ(2u, arrived.fds.size());
  if (!on_device()) {
    EXPECT_EQ(5u, arrived.connect.generation);
    EXPECT_EQ((wire::Location{wire::kObjectDescriptor, 0, 4096}), arrived.connect.area);
    struct stat sent {};
    struct stat got {};
    ASSERT_EQ(0, ::fstat(program.area.get(), &sent));
    ASSERT_EQ(0, ::fstat(arrived.fds[0].get(), &got));
    EXPECT_EQ(sent.st_ino, got.st_ino);
  }
  expect_joined(program, arrived);

  wire::Message connected;
  connected.type = wire::MessageType::kConnected;
  send_message(arrived.rendezvous.get(), connected);
  EXPECT_TRUE(eventually([&] { return peer_status(status(1), "b").connected == 1; }));
  const auto at_b = status(2);
  EXPECT_EQ(1u, peer_status(at_b, "a").arrivals_accepted);
  ASSERT_EQ(1u, at_b.listeners.size());
  EXPECT_EQ("127.0.2.1:" + std::to_string(listener.address.port), at_b.listeners[0].endpoint);
  EXPECT_EQ(0u, status(1).messages_bad + at_b.messages_bad);
  if (GetParam().notify == layout::NotifyMode::kPoll) {
    EXPECT_EQ(0u, status(1).doorbells_rung + at_b.doorbells_rung);
  }
}

TEST_P(OneKernel, RefusedByTheListenerIsRelayedAndClosingIsNot) {
  const auto a = start("a");
  const auto b = start("b");
  FakeListener listener;
  FakeProgram program(dir);
  ASSERT_EQ(kQueued, program.ask(listener.address));
  listener.accept().rendezvous.reset();
  FakeProgram other(dir);
  ASSERT_EQ(kQueued, other.ask(listener.address));
  FakeListener::Arrived arrived = listener.accept();
  wire::Message refused;
  refused.type = wire::MessageType::kRefused;
  refused.reason = number(Reason::kRefused);
  send_message(arrived.rendezvous.get(), refused);
  // STATUS twice and REFUSED; nothing for the one that was closed.
  EXPECT_TRUE(eventually([&] { return status(1).messages_received == 3; }));
  EXPECT_EQ(0u, peer_status(status(1), "b").connected);
}

TEST_P(EachSetting, NoListener) {
  const auto a = start("a");
  const auto b = start("b");
  FakeProgram program(dir);
  EXPECT_EQ(number(Reason::kNoListener), program.ask(endpoint(kAddressB, 9)));
  const auto at_a = status(1);
  ASSERT_EQ(1u, at_a.request_refused.size());
  EXPECT_EQ(number(Reason::kNoListener), at_a.request_refused[0].first);
  EXPECT_EQ(1u, status(2).arrival_refused.size());
}

TEST_P(EachSetting, PeerDriverThatNeverRanOrWasStopped) {
  const auto a = start("a");
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
  const auto b = start("b");
  EXPECT_EQ(number(Reason::kNoListener), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
  EXPECT_EQ(0, b->stop());
  EXPECT_FALSE(exists("b.driver"));
  EXPECT_FALSE(exists("b.peer"));
  EXPECT_EQ(window::DriverCondition::kDown, status(2).driver);
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
}

TEST_P(OneKernel, KilledDriversAreReplacedAndConnectionsStay) {
  auto a = start("a");
  auto b = start("b");
  FakeListener listener;
  FakeProgram first(dir);
  ASSERT_EQ(kQueued, first.ask(listener.address));
  FakeListener::Arrived arrived = listener.accept();
  for (std::uint64_t life = 2; life < 5; ++life) {
    b->kill_hard();
    EXPECT_TRUE(exists("b.driver"));
    EXPECT_EQ(window::DriverCondition::kDown, status(2).driver);
    EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(listener.address));
    b = start("b");
    EXPECT_EQ(life, status(2).generation);
    EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener.address));
    a->kill_hard();
    a = start("a");
    EXPECT_EQ(life, status(1).generation);
    EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener.address));
  }
  ASSERT_EQ(2, ::write(first.bell.get(), "hi", 2));
  EXPECT_EQ("hi", read_bytes(arrived.fds.at(1).get(), 2));
}

TEST_P(EachSetting, RequestsPendingAtADriverThatDiesAreRefused) {
  const auto a = start("a");
  const auto b = start("b");
  FakeListener listener;
  b->signal(SIGSTOP);
  FakeProgram program(dir);
  program.send(program.request(listener.address));
  EXPECT_TRUE(eventually([&] { return peer_status(status(1), "b").requests_sent == 1; }));
  b->kill_hard();
  const auto answer = program.verdict();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(wire::MessageType::kRefused, answer->type);
  EXPECT_EQ(number(Reason::kPeerDriverDown), answer->reason);
}

TEST_P(EachSetting, RequestsPendingAtADriverThatHangsRunOutOfTime) {
  const auto a = start("a");
  const auto b = start("b");
  b->signal(SIGSTOP);
  FakeProgram program(dir);
  EXPECT_EQ(number(Reason::kPeerDriverDown), program.ask(endpoint(kAddressB, 9)));
  b->signal(SIGCONT);
  // The late answer to the first request harms nobody.
  EXPECT_TRUE(eventually(
      [&] { return FakeProgram(dir).ask(endpoint(kAddressB, 9)) == number(Reason::kNoListener); }));
}

TEST_P(EachSetting, ProgramThatClosesCancels) {
  const auto a = start("a");
  const auto b = start("b");
  FakeListener listener;
  b->signal(SIGSTOP);
  {
    FakeProgram program(dir);
    program.send(program.request(listener.address));
    EXPECT_TRUE(eventually([&] { return peer_status(status(1), "b").requests_sent == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return status(1).requests_cancelled == 1; }));
  b->signal(SIGCONT);
  // As with TCP, the listener meets a connection whose other end is gone.
  FakeListener::Arrived arrived = listener.accept();
  EXPECT_EQ("", read_bytes(arrived.fds.at(1).get(), 1));
  EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener.address));
}

TEST_P(EachSetting, ManyRequestsAtOnce) {
  constexpr std::size_t kPrograms = 200;  // far more than the socket between the drivers queues
  const auto a = start("a", {"--request-limit", "20000"});
  const auto b = start("b");
  FakeListener listener;
  std::deque<FakeProgram> programs;
  for (std::size_t i = 0; i < kPrograms; ++i) programs.emplace_back(dir);
  for (FakeProgram& p : programs) p.send(p.request(listener.address));
  for (FakeProgram& p : programs) {
    const auto answer = p.verdict();
    ASSERT_TRUE(answer.has_value());
    ASSERT_EQ(kQueued, answer->reason);
  }
  // Each listener's end is paired with the program that its source says.
  for (std::size_t i = 0; i < kPrograms; ++i) {
    FakeListener::Arrived arrived = listener.accept();
    const auto from = std::find_if(programs.begin(), programs.end(), [&](const FakeProgram& p) {
      return port_of(p.reserved.get()) == arrived.connect.source.port;
    });
    ASSERT_NE(programs.end(), from);
    expect_joined(*from, arrived);
  }
}

TEST_P(EachSetting, SecondDriverIsRefusedWithThePidOfTheFirst) {
  const auto a = start("a");
  const Outcome second = run_shuntd({"--window", spec, "--partition", "a"});
  EXPECT_EQ(1, second.status);
  EXPECT_NE(std::string::npos, second.errors.find("(pid " + std::to_string(a->pid()) + ")"))
      << second.errors;
  EXPECT_TRUE(exists("a.driver"));
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
  EXPECT_EQ(0, a->stop());
  EXPECT_EQ(1u, status(1).generation);
}

TEST_P(EachSetting, BothDirectionsAtOnce) {
  const auto a = start("a");
  const auto b = start("b");
  FakeListener at_b(kAddressB);
  FakeListener at_a(kAddressA);
  for (int i = 0; i < 20; ++i) {
    FakeProgram from_a(dir, "a");
    FakeProgram from_b(dir, "b");
    from_a.send(from_a.request(at_b.address));
    from_b.send(from_b.request(at_a.address));
    EXPECT_EQ(kQueued, from_a.verdict().value().reason);
    EXPECT_EQ(kQueued, from_b.verdict().value().reason);
  }
}

bool bring_loopback_up() {
  const window::UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return ::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0;
}

// Partition b lives in a network namespace of its own: its driver and listener are started by a
// thread that moved there.
TEST_P(EachSetting, PartitionsInTwoNetworkNamespaces) {
  const auto a = start("a");
  std::unique_ptr<DriverProcess> b;
  std::unique_ptr<FakeListener> listener;
  std::thread elsewhere([&] {
    if (::unshare(CLONE_NEWNET) != 0 || !bring_loopback_up()) return;
    b = start("b");
    listener = std::make_unique<FakeListener>();
  });
  elsewhere.join();
  if (!listener) GTEST_SKIP() << "may not make a network namespace here";
  FakeProgram program(dir);
  ASSERT_EQ(kQueued, program.ask(listener->address));
  FakeListener::Arrived arrived = listener->accept();
  EXPECT_EQ(endpoint(kAddressA, port_of(program.reserved.get())), arrived.connect.source);
  expect_joined(program, arrived);
  // The same name in a's namespace is somebody else's.
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressC, 80)));
  const FakeListener here;
  if (here.address != listener->address) {  // the kernel chose both ports
    EXPECT_EQ(number(Reason::kNoListener), FakeProgram(dir).ask(here.address));
  }
}

// With a heartbeat each second, a wake-up that only the heartbeat brings would show in the time.
class BothKinds : public WindowFixture, public ::testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override { make_window(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Window, BothKinds, ::testing::Values(Kind::kDirectory, Kind::kDevice),
                         [](const auto& kind) {
                           return std::string(kind.param == Kind::kDevice ? "device" : "directory");
                         });

TEST_P(BothKinds, DoorbellsAndNotHeartbeatsWakeSleepingDrivers) {
  spdlog::default_logger_raw();  // made by one thread
  Options options;
  options.window = spec;
  options.tick = std::chrono::seconds(1);
  options.partition = "a";
  Driver a(options);
  options.partition = "b";
  Driver b(options);
  std::thread run_a([&] { a.run(); });
  std::thread run_b([&] { b.run(); });
  const window::Backing backing = window::open_backing(spec);
  const window::SectionFile of_a(backing, backing.table.partitions[0], window::Access::kReadOnly);
  const window::SectionFile of_b(backing, backing.table.partitions[1], window::Access::kReadOnly);
  const auto asleep = [](const window::SectionFile& of) {
    return (of.section()->header.sleep.sleeping.load() & 1) != 0;
  };
  EXPECT_TRUE(eventually([&] { return asleep(of_a) && asleep(of_b); }));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(number(Reason::kNoListener), FakeProgram(dir).ask(endpoint(kAddressB, 9)));
    EXPECT_TRUE(eventually([&] { return asleep(of_a) && asleep(of_b); }));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  a.stop();
  b.stop();
  run_a.join();
  run_b.join();
  // Each found the other asleep nearly every time: A rings for CONNECT, B for REFUSED.
  EXPECT_GT(status(1).doorbells_rung, 0u);
  EXPECT_GT(status(2).doorbells_rung, 0u);
}

TEST_F(WindowFixture, StartErrorsSayWhatAndWhatToDo) {
  const auto fails = [](const std::vector<std::string>& arguments, const std::string& part) {
    const Outcome outcome = run_shuntd(arguments);
    EXPECT_EQ(1, outcome.status);
    EXPECT_NE(std::string::npos, outcome.errors.find(part)) << outcome.errors;
  };
  fails({"--window", dir + "x", "--partition", "a"}, "no such directory");
  fails({"--window", base, "--partition", "a"}, "is not a window of Shunt");
  fails({"--window", dir, "--partition", "z"}, "no partition 'z': it has a, b, c");
  EXPECT_NE(0, run_shuntd({"--window", dir, "--partition", "a", "--notify", "smoke"}).status);
  EXPECT_NE(0, run_shuntd({}).status);
  EXPECT_FALSE(exists("a.driver"));
}

}  // namespace
}  // namespace shunt::driver
