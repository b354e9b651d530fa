// Doorbells that are byte streams: on their own, and between drivers that share a device and nothing else.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "driver/core/pacing.h"
#include "driver/doorbells/stream_doorbell.h"
#include "driver/support_test.h"
#include "window/error.h"
#include "window/runtime_directory.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

// A driver's side of a doorbell, without the driver.
struct Side {
  Side(const std::string& spec, const std::string& peer)
      : bell(spec, peer, poller, [this] { ++rings; }) {}
  // Events and ticks as in a driver; how often the poller had something.
  int turn(int ticks = 1) {
    int events = 0;
    for (int i = 0; i < ticks; ++i) {
      while (const int n = poller.wait(std::chrono::microseconds{0})) {
        events += n;
        bell.drain();
        if (events > 10000) return events;
      }
      bell.tick();
    }
    return events;
  }
  Poller poller;
  int rings = 0;
  StreamDoorbell bell;
};

class Bells : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/shunt-bell-XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(pattern));
    base = pattern;
    path = base + "/bell";
  }
  void TearDown() override { std::filesystem::remove_all(base); }
  static bool join(Side& a, Side& b) {
    return eventually([&] {
      a.turn();
      b.turn();
      return a.bell.present() && b.bell.present();
    });
  }
  std::string base;
  std::string path;
};

TEST_F(Bells, EachHearsTheOtherBeforeItCountsOnIt) {
  auto a = std::make_unique<Side>("listen:" + path, "b");
  a->turn(3);
  EXPECT_FALSE(a->bell.present());
  EXPECT_EQ(ENOTCONN, a->bell.ring());
  Side b("unix:" + path, "a");
  ASSERT_TRUE(join(*a, b));
  a->turn();
  b.turn();
  const int before = b.rings;
  EXPECT_EQ(0, a->bell.ring());
  EXPECT_EQ(1, b.turn());
  EXPECT_EQ(before + 1, b.rings);
  EXPECT_EQ(0, b.turn(50)) << "two that have heard each other are silent";
}

TEST_F(Bells, AHangUpIsNoSpinAndTheNextOneIsFound) {
  auto a = std::make_unique<Side>("listen:" + path, "b");
  Side b("unix:" + path, "a");
  ASSERT_TRUE(join(*a, b));
  a.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_LE(b.turn(100), 2);
  EXPECT_FALSE(b.bell.present());
  a = std::make_unique<Side>("listen:" + path, "b");
  EXPECT_TRUE(join(*a, b));
}

TEST_F(Bells, WhatAKilledListenerLeftIsReplacedWhatALivingOneHasIsNot) {
  {
    const sockaddr_un address = [&] {
      sockaddr_un u{};
      u.sun_family = AF_UNIX;
      path.copy(u.sun_path, sizeof u.sun_path - 1);
      return u;
    }();
    const window::UniqueFd left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(0, ::bind(left.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address));
  }
  Side a("listen:" + path, "b");
  struct stat s {};
  ASSERT_EQ(0, ::stat(path.c_str(), &s));
  EXPECT_EQ(0600u, s.st_mode & 0777u);
  EXPECT_THROW(Side("listen:" + path, "b"), window::WindowError);
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(Bells, APeerThatReadsNothingIsRungEnough) {
  Side a("listen:" + path, "b");
  Side b("unix:" + path, "a");
  ASSERT_TRUE(join(a, b));
  int error = 0;
  for (int i = 0; i < 1000000 && error == 0; ++i) error = a.bell.ring();
  EXPECT_EQ(EAGAIN, error);
  EXPECT_TRUE(a.bell.present());
}

TEST_F(Bells, APeerThatRingsForNothingIsNotListenedToUntilTheNextTick) {
  Side a("listen:" + path, "b");
  Side b("unix:" + path, "a");
  ASSERT_TRUE(join(a, b));
  const auto ring_all_the_time = [&] {
    int heard = 0;
    for (std::uint32_t i = 0; i < 3 * StreamDoorbell::kVainMax; ++i) {
      b.bell.ring();
      heard += a.poller.wait(std::chrono::microseconds{0});
      a.bell.drain();
    }
    return static_cast<std::uint32_t>(heard);
  };
  EXPECT_LE(ring_all_the_time(), StreamDoorbell::kVainMax + 1);
  EXPECT_FALSE(a.bell.present());
  a.bell.tick();
  EXPECT_TRUE(a.bell.present());
  a.turn();
  for (std::uint32_t i = 0; i < 3 * StreamDoorbell::kVainMax; ++i) {
    b.bell.ring();
    a.poller.wait(std::chrono::microseconds{0});
    a.bell.had_news();
    a.bell.drain();
  }
  EXPECT_TRUE(a.bell.present()) << "rings that announce something are never too many";
}

// A character device whose other end comes and goes: a terminal here, a virtio-serial port in a guest.
TEST_F(Bells, APortWithoutAnotherEndIsLookedForAtTicks) {
  int master = -1;
  int slave = -1;
  char name[64];
  ASSERT_EQ(0, ::openpty(&master, &slave, name, nullptr, nullptr));
  window::UniqueFd far(master);
  const window::UniqueFd near(slave);
  termios raw{};
  ::tcgetattr(slave, &raw);
  ::cfmakeraw(&raw);
  ::tcsetattr(slave, TCSANOW, &raw);
  Side a(name, "b");
  EXPECT_EQ(layout::DoorbellKind::kVirtioSerial, a.bell.kind());
  a.turn();
  EXPECT_FALSE(a.bell.present());
  ASSERT_EQ(1, ::write(far.get(), "x", 1));
  EXPECT_TRUE(eventually([&] {
    a.turn();
    return a.bell.present();
  }));
  char byte;
  EXPECT_EQ(1, ::read(far.get(), &byte, 1));
  far.reset();
  EXPECT_LE(a.turn(200), 2);
  EXPECT_FALSE(a.bell.present());
}

TEST_F(Bells, SpecsThatCanNeverWork) {
  EXPECT_THROW(Side("smoke", "b"), window::WindowError);
  EXPECT_THROW(Side("unix:", "b"), window::WindowError);
  EXPECT_THROW(Side("unix:/" + std::string(200, 'x'), "b"), window::WindowError);
  EXPECT_THROW(Side("listen:/no/where", "b"), window::WindowError);
  EXPECT_THROW(Side("/etc/passwd", "b"), window::WindowError);
  Side later("virtio:shunt.not-yet", "b");
  Side later_too("/dev/virtio-ports/not-yet", "b");
  EXPECT_EQ(0, later.turn(30) + later_too.turn(30));
  EXPECT_FALSE(later.bell.present() || later_too.bell.present());
}

TEST(PacingTest, LongerAndLonger) {
  Pacing pacing;
  const auto start = Pacing::Clock::now();
  EXPECT_EQ(0us, pacing.pause(true, start));
  EXPECT_EQ(0us, pacing.pause(false, start + 199us));
  EXPECT_EQ(20us, pacing.pause(false, start + 200us));
  for (int i = 0; i < 10; ++i) pacing.pause(false, start + 1ms);
  EXPECT_EQ(1000us, pacing.pause(false, start + 999ms));
  EXPECT_EQ(1000us, pacing.pause(false, start + 1s));
  EXPECT_EQ(2000us, pacing.pause(false, start + 2s));
  EXPECT_EQ(4000us, pacing.pause(false, start + 3s));
  EXPECT_EQ(4000us, pacing.pause(false, start + 3s));
  EXPECT_EQ(0us, pacing.pause(true, start + 4s));
}

// As guests are: a device, a byte stream, nothing else.
class FarApart : public WindowFixture {
 protected:
  void SetUp() override { make_window(Kind::kDevice); }
  void TearDown() override {
    ::unsetenv("SHUNT_TEST_BOOT_ID");
    WindowFixture::TearDown();
  }
  std::unique_ptr<DriverProcess> start(const std::string& partition, layout::NotifyMode notify,
                                       const std::vector<std::string>& more) {
    ::setenv("SHUNT_RUNTIME_DIR", (base + "/" + partition).c_str(), 1);
    ::setenv("SHUNT_TEST_BOOT_ID", partition.c_str(), 1);
    return std::make_unique<DriverProcess>(spec, partition, notify, more);
  }
  std::string place(const std::string& partition) {
    ::setenv("SHUNT_RUNTIME_DIR", (base + "/" + partition).c_str(), 1);
    return window::runtime_directory(spec);
  }
  bool doorbells(bool present) {
    return eventually([&] {
      const auto a = status(1);
      const auto b = status(2);
      return peer_status(a, "b").doorbell_present == present &&
             (!present || peer_status(b, "a").doorbell_present);
    });
  }
  static double cpu_seconds(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string word;
    double ticks = 0;
    for (int i = 1; i <= 15 && stat >> word; ++i) {
      if (i >= 14) ticks += std::stod(word);
    }
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
};

TEST_F(FarApart, ConnectionsAreSetUpByRings) {
  const std::string bell = base + "/bell";
  const auto a = start("a", layout::NotifyMode::kInterrupt, {"--doorbell", "b=listen:" + bell});
  auto b = start("b", layout::NotifyMode::kInterrupt, {"--doorbell", "a=unix:" + bell});
  ASSERT_TRUE(doorbells(true));
  EXPECT_EQ("socket", peer_status(status(1), "b").doorbell);
  FakeListener listener;
  const std::string at_a = place("a");
  ASSERT_TRUE(eventually([&] {
    return FakeProgram(at_a).ask(endpoint(kAddressB, 9)) ==
           static_cast<std::uint32_t>(wire::Reason::kNoListener);
  }));
  FakeProgram program(at_a);
  ASSERT_EQ(kQueued, program.ask(listener.address));
  FakeListener::Arrived arrived = listener.accept();
  expect_joined(program, arrived);
  EXPECT_GT(status(1).doorbells_rung, 0u);
  EXPECT_GT(status(1).doorbells_received, 0u);
  EXPECT_GT(peer_status(status(2), "a").doorbells_rung, 0u);

  b->kill_hard();
  ASSERT_TRUE(doorbells(false));
  b = start("b", layout::NotifyMode::kInterrupt, {"--doorbell", "a=unix:" + bell});
  EXPECT_TRUE(doorbells(true));
}

TEST_F(FarApart, IdleDriversCostLittle) {
  const std::string bell = base + "/bell";
  const auto a = start("a", layout::NotifyMode::kPoll, {"--doorbell", "b=listen:" + bell});
  const auto b = start("b", layout::NotifyMode::kInterrupt, {"--doorbell", "a=unix:" + bell});
  // Hung up for good: nobody rings c, and c's doorbell finds nobody.
  const auto c = start("c", layout::NotifyMode::kPoll, {"--doorbell", "a=unix:" + base + "/none"});
  std::this_thread::sleep_for(1500ms);
  const double before[] = {cpu_seconds(a->pid()), cpu_seconds(b->pid()), cpu_seconds(c->pid())};
  std::this_thread::sleep_for(4s);
  const double cost[] = {(cpu_seconds(a->pid()) - before[0]) / 4,
                         (cpu_seconds(b->pid()) - before[1]) / 4,
                         (cpu_seconds(c->pid()) - before[2]) / 4};
  ::printf("idle driver: poll %.2f %%, paced (a peer cannot ring) %.2f %%, poll %.2f %%\n",
           cost[0] * 100, cost[1] * 100, cost[2] * 100);
  for (const double share : cost) EXPECT_LT(share, 0.04);
}

TEST_F(FarApart, BadDoorbells) {
  const auto fails = [&](const std::vector<std::string>& more, const std::string& part,
                         const std::string& window) {
    std::vector<std::string> arguments{"--window", window,        "--partition",
                                       "a",        "--log-level", "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_shuntd(arguments);
    EXPECT_EQ(1, outcome.status);
    EXPECT_NE(std::string::npos, outcome.errors.find(part)) << outcome.errors;
  };
  fails({"--doorbell", "b"}, "not PEER=SPEC", spec);
  fails({"--doorbell", "b=unix:/x", "--doorbell", "b=unix:/y"}, "has a doorbell already", spec);
  fails({"--doorbell", "a=unix:/x"}, "no other partition of that name", spec);
  fails({"--doorbell", "z=unix:/x"}, "no other partition of that name", spec);
  fails({"--doorbell", "b=/etc/passwd"}, "not a virtio-serial port", spec);
  fails({"--doorbell", "b=vfio:0000:00:10"}, "write vfio:DOMAIN:BUS:SLOT.FUNCTION", spec);
  fails({"--doorbell", "b=smoke"}, "not virtio:NAME, unix:PATH, listen:PATH", spec);
}

TEST_F(FarApart, OptionsFromAFile) {
  const std::string config = base + "/shuntd.conf";
  const std::string bell = base + "/bell";
  std::ofstream(config) << "# a's driver\nnotify = \"poll\"\ndoorbell = [\"b=listen:" << bell
                        << "\", \"c=unix:" << base << "/c\"]\nareas-per-program = 3\n";
  ::setenv("SHUNT_RUNTIME_DIR", (base + "/a").c_str(), 1);
  const auto a =
      start("a", layout::NotifyMode::kInterrupt, {"--config", config});  // the command line wins
  const auto b = start("b", layout::NotifyMode::kInterrupt, {"--doorbell", "a=unix:" + bell});
  EXPECT_TRUE(doorbells(true));
  EXPECT_EQ("interrupt", status(1).notify);
  EXPECT_EQ("socket", peer_status(status(1), "c").doorbell);
  std::ofstream(config) << "nonsense = 3\n";
  EXPECT_NE(0, run_shuntd({"--window", spec, "--partition", "c", "--config", config}).status);
  EXPECT_NE(0, run_shuntd({"--window", spec, "--partition", "c", "--config", base + "/no"}).status);
}

}  // namespace
}  // namespace shunt::driver
