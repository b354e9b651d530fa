// Somebody writes at random over a window on a device while three drivers work in it, each in a thread of this
// process, so that a sanitizer sees all that they touch. The thread sanitizer would rightly report the scribbler.
#if !defined(__SANITIZE_THREAD__)

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/scribble_test_util.h"
#include "driver/driver.h"
#include "driver/support_test.h"
#include "window/backing.h"
#include "window/device_format.h"
#include "window/error.h"
#include "window/manage.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kAreas = 24;
constexpr std::uint32_t kNoAnswer = ~0u;

// A driver in a thread of its own, until it is told to stop or leaves by itself.
class Running {
 public:
  explicit Running(const Options& options) : thread_([this, options] { live(options); }) {
    ready_.get_future().wait();
  }
  ~Running() { stop(); }
  void stop() {
    const std::uint64_t one = 1;
    EXPECT_EQ(8, ::write(stop_.get(), &one, sizeof one));
    if (thread_.joinable()) thread_.join();
  }
  bool over() const { return over_.load(); }
  const std::string& why() const { return why_; }  // when it is over

 private:
  void live(const Options& options) {
    bool told = false;
    try {
      Driver driver(options);
      driver.stop_when_readable(stop_.get());
      told = true;
      ready_.set_value();
      driver.run();
    } catch (const window::WindowError& e) {
      why_ = e.what();
    }
    over_.store(true);
    if (!told) ready_.set_value();
  }
  window::UniqueFd stop_{::eventfd(0, EFD_CLOEXEC)};
  std::promise<void> ready_;
  std::atomic<bool> over_{false};
  std::string why_;
  std::thread thread_;
};

class DriverScribble : public WindowFixture {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::off);
    for (const FakeListener* listener : {&at_a, &at_b, &at_c}) {
      ASSERT_EQ(0, ::fcntl(listener->rendezvous.get(), F_SETFL, O_NONBLOCK));
    }
    make_window(Kind::kDevice, kAreas);
    backing = window::open_backing(spec);
    memory = backing.device->map(0, backing.geometry.size, window::Access::kReadWrite);
    start();
  }
  void TearDown() override {
    for (auto& driver : drivers) driver.reset();
    memory = {};
    WindowFixture::TearDown();
    spdlog::set_level(spdlog::level::info);
  }
  void start() {
    for (int i = 0; i < 3; ++i) {
      Options options;
      options.window = spec;
      options.partition = std::string(1, static_cast<char>('a' + i));
      options.notify = i == 1 ? layout::NotifyMode::kPoll : layout::NotifyMode::kInterrupt;
      options.tick = 20ms;
      options.request_limit = 500ms;
      options.dead_after = 1000ms;
      drivers[i] = std::make_unique<Running>(options);
      EXPECT_FALSE(drivers[i]->over()) << drivers[i]->why();
    }
    // Each has seen the heart of the others when requests get as far as their listeners.
    EXPECT_TRUE(eventually([&] {
      for (const auto& [from, to] : {std::pair{"a", &at_b},
                                     {"a", &at_c},
                                     {"b", &at_a},
                                     {"b", &at_c},
                                     {"c", &at_a},
                                     {"c", &at_b}}) {
        if (ask(from, *to) != kQueued) return false;
      }
      return true;
    }));
  }
  void make_window_anew() {
    for (auto& driver : drivers) driver.reset();
    window::DevicePlan plan;
    plan.table = window::plan_table({{"a", {kAddressA}}, {"b", {kAddressB}}, {"c", {kAddressC}}},
                                    std::nullopt);
    plan.granule = layout::kGranuleMin;
    window::create_device_window(spec, plan, true);
  }

  void empty(FakeListener& listener) {
    int arrived;
    while ((arrived = ::accept4(listener.rendezvous.get(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0) {
      ::close(arrived);
    }
  }
  // A request whose connection is let go at once, however far it came.
  std::uint32_t ask(const std::string& from, FakeListener& to) {
    FakeProgram program(dir, from);
    const std::uint32_t reason = program.ask(to.address);
    empty(to);
    return reason;
  }
  // What arrives at b from a. Requests that c never made are honest ones as far as anybody can tell, and some of
  // those are withdrawn before they are read.
  FakeListener::Arrived next_of_a() {
    FakeListener::Arrived arrived;
    const bool came = eventually([&] {
      arrived.rendezvous.reset(
          ::accept4(at_b.rendezvous.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!arrived.rendezvous) return false;
      wire::MessageBytes bytes;
      Received received = receive_with_fds(arrived.rendezvous.get(), bytes);
      const auto message = wire::decode(bytes.data(), received.size);
      if (!message.ok() || message.value().partition != 1) return false;
      arrived.connect = message.value();
      for (StrangerFd& fd : received.fds) arrived.fds.emplace_back(fd.release());
      return true;
    });
    EXPECT_TRUE(came) << "nothing arrived";
    return arrived;
  }
  // With requests that c never made a listener's queue is full at times, as TCP's is under a flood: a program then
  // goes by TCP. Here the queue is emptied and the request made anew.
  std::unique_ptr<FakeProgram> ask_b() {
    std::unique_ptr<FakeProgram> program;
    std::uint32_t answer = 0;
    eventually([&] {
      program = std::make_unique<FakeProgram>(dir, "a");
      answer = program->ask(at_b.address);
      const bool full = answer == static_cast<std::uint32_t>(wire::Reason::kBacklogFull);
      if (full) empty(at_b);
      return !full;
    });
    EXPECT_EQ(kQueued, answer);
    return program;
  }
  void expect_a_and_b_joined() {
    const auto program = ask_b();
    if (HasFailure()) return;
    FakeListener::Arrived arrived = next_of_a();
    ASSERT_EQ(2u, arrived.fds.size());
    expect_joined(*program, arrived);
  }

  Scribble::Place place(std::uint64_t offset, std::uint64_t bytes) {
    return {memory.data() + offset, bytes};
  }
  // Everything in front of the arena decides something: header, lanes, entries, messages.
  Scribble::Place control(std::uint32_t number) {
    return place(backing.geometry.section_offset(number), sizeof(layout::Section) + 65536);
  }
  Scribble::Place section(std::uint32_t number) {
    return place(backing.geometry.section_offset(number), backing.geometry.section_stride);
  }
  // Runs `round` again and again for `time` while somebody scribbles.
  void scribble(Scribble scribbler, std::chrono::milliseconds time,
                const std::function<void()>& round) {
    std::atomic<bool> stop{false};
    std::thread thread([&] { scribbler.until(stop, 5ms); });
    const auto end = Clock::now() + time;
    while (Clock::now() < end && !HasFailure()) {
      round();
      ++rounds;
    }
    stop.store(true);
    thread.join();
    EXPECT_GT(scribbler.writes(), 1000u);
  }
  void expect_alive(int driver) { EXPECT_FALSE(drivers[driver]->over()) << drivers[driver]->why(); }

  window::Backing backing;
  window::Mapping memory;
  std::unique_ptr<Running> drivers[3];
  FakeListener at_a{kAddressA};
  FakeListener at_b{kAddressB};
  FakeListener at_c{kAddressC};
  int rounds = 0;
};

TEST_F(DriverScribble, OverOnesOwnSectionHurtsNobodyElse) {
  scribble({{section(3)}, {control(3)}, 1}, 1500ms, [&] {
    expect_a_and_b_joined();
    EXPECT_NE(kNoAnswer, ask("a", at_c));
    EXPECT_NE(kNoAnswer, ask("b", at_c));
    const std::uint32_t answer = ask("c", at_b);
    EXPECT_TRUE(answer != kNoAnswer || eventually([&] { return drivers[2]->over(); }));
  });
  expect_alive(0);
  expect_alive(1);
  expect_alive(2);
  EXPECT_GT(rounds, 3);
  make_window_anew();
  start();
  expect_a_and_b_joined();
}

// A session that changes faster than the others can follow.
TEST_F(DriverScribble, ASessionThatNeverStandsStill) {
  std::atomic<bool> stop{false};
  auto* section_c = reinterpret_cast<layout::Section*>(section(3).data());
  std::thread thread([&] {
    for (std::uint64_t session = 1; !stop.load(std::memory_order_relaxed); ++session) {
      section_c->lanes[0].generation.store(session << 16, std::memory_order_relaxed);
      section_c->lanes[1].generation.store(session << 16, std::memory_order_relaxed);
    }
  });
  for (int i = 0; i < 20 && !HasFatalFailure(); ++i) expect_a_and_b_joined();
  stop.store(true);
  thread.join();
  for (int i = 0; i < 3; ++i) expect_alive(i);
}

TEST_F(DriverScribble, OverTheWholeWindowEndsNoDriver) {
  const std::vector<Scribble::Place> hot{place(0, 8192), control(1), control(2), control(3)};
  scribble({{place(0, backing.geometry.size)}, hot, 2}, 1500ms, [&] {
    EXPECT_NE(kNoAnswer, ask("a", at_b));
    EXPECT_NE(kNoAnswer, ask("b", at_c));
    EXPECT_NE(kNoAnswer, ask("c", at_a));
  });
  for (int i = 0; i < 3; ++i) expect_alive(i);
  make_window_anew();
  start();
  expect_a_and_b_joined();
}

}  // namespace
}  // namespace shunt::driver

#endif
