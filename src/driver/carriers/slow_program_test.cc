// Programs that send their driver what takes long to close, or what never ends. It serves the others all the same.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "driver/carriers/relay_support_test.h"
#include "driver/carriers/slow_close_test.h"
#include "wire/reason.h"

namespace shunt::driver {
namespace {

using wire::Reason;

constexpr std::uint32_t number(Reason r) { return static_cast<std::uint32_t>(r); }

class SlowProgram : public Relay {
 protected:
  // While the driver does not look: it is the one that closes last.
  void ask_with(FakeProgram& program, const std::function<void()>& send) {
    a->signal(SIGSTOP);
    send();
    program.reserved.reset();
    slow.sent();
    a->signal(SIGCONT);
  }
  void expect_service_to_the_end() {
    expect_honest_service();
    const int status = a->stop();
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(0, WEXITSTATUS(status));
  }
  SlowToClose slow;
};

TEST_F(SlowProgram, AsTheReservation) {
  FakeProgram program(dir);
  program.reserved.reset(::dup(slow.socket.get()));
  ask_with(program, [&] { program.send(program.request(listener->address)); });
  EXPECT_EQ(number(Reason::kBadSource), program.verdict()->reason);
  expect_service_to_the_end();
}

TEST_F(SlowProgram, AsTheBell) {
  FakeProgram program(dir);
  program.far_bell.reset(::dup(slow.socket.get()));
  ask_with(program, [&] { program.send(program.request(listener->address)); });
  EXPECT_EQ(number(Reason::kRefused), program.verdict()->reason);
  expect_service_to_the_end();
}

TEST_F(SlowProgram, BesideWhatARequestNeeds) {
  FakeProgram program(dir);
  ask_with(program, [&] {
    const std::array<int, 6> fds{program.reserved.get(), program.far_bell.get(), STDERR_FILENO,
                                 STDERR_FILENO,          STDERR_FILENO,          slow.socket.get()};
    send_many(program.socket.get(), wire::encode(program.request(listener->address)), fds);
  });
  EXPECT_EQ(number(Reason::kRefused), program.verdict()->reason);
  expect_service_to_the_end();
}

TEST_F(SlowProgram, BehindARequest) {
  FakeProgram program(dir);
  ask_with(program, [&] {
    const auto request = wire::encode(program.request(listener->address));
    program.send(program.request(endpoint(kAddressC, 9)));  // answered at once
    const int fd = slow.socket.get();
    send_many(program.socket.get(), request, std::span(&fd, 1));
  });
  program.verdict();  // or a reset, for what it said behind its request
  program.socket.reset();
  expect_service_to_the_end();
}

TEST_F(SlowProgram, WithARing) {
  FakeProgram program(dir);
  const std::uint8_t ring = wire::kRing;
  const int fd = slow.socket.get();
  send_many(program.bell.get(), std::span(&ring, 1), std::span(&fd, 1));
  slow.sent();
  program.send(program.request(listener->address));
  EXPECT_TRUE(read_bell(program.bell.get(), ended).ended);
  EXPECT_EQ(1u, areas(0).bells_bad);
  program.bell.reset();
  program.verdict();
  listener->accept();
  expect_service_to_the_end();
}

TEST_F(SlowProgram, ABellThatListensIsRefused) {
  FakeProgram program(dir);
  program.far_bell.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const window::UniqueFd unconnected(::dup(program.far_bell.get()));
  EXPECT_EQ(number(Reason::kRefused), program.ask(listener->address));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_EQ(0, ::bind(unconnected.get(), reinterpret_cast<sockaddr*>(&address), 2));  // any name
  ASSERT_EQ(0, ::listen(unconnected.get(), 1));
  FakeProgram listening(dir);
  listening.far_bell.reset(::dup(unconnected.get()));
  EXPECT_EQ(number(Reason::kRefused), listening.ask(listener->address));
  EXPECT_TRUE(all_free());
}

// It spoils its bell and sends it over itself: only the driver could ever read it out of there.
TEST_F(SlowProgram, ABellThatHoldsItselfDoesNotKeepItsArea) {
  auto pair = connect();
  FakeProgram& program = pair->program;
  ASSERT_EQ(1, ::write(program.bell.get(), "x", 1));
  EXPECT_TRUE(read_bell(program.bell.get(), ended).ended);
  const int itself = program.bell.get();
  const std::uint8_t ring = wire::kRing;
  send_with_fds(itself, std::span(&ring, 1), std::span(&itself, 1));  // where it still can
  pair->close_a();
  pair->close_b();
  EXPECT_TRUE(all_free());
}

TEST_F(SlowProgram, WhoSpoilsItsBellBeforeTheVerdictGetsNoArea) {
  b->signal(SIGSTOP);
  FakeProgram program(dir);
  program.send(program.request(listener->address));
  ASSERT_EQ(1, ::write(program.bell.get(), "x", 1));
  EXPECT_TRUE(read_bell(program.bell.get(), ended).ended);
  b->signal(SIGCONT);
  EXPECT_EQ(number(Reason::kNoMemory), program.verdict()->reason);
  EXPECT_EQ(nullptr, program.own.get());
  listener->accept();
  EXPECT_TRUE(all_free());
}

}  // namespace
}  // namespace shunt::driver
