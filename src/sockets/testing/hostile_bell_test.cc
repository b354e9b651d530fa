// A peer that rings without end, against a victim that serves others too.
#include <sys/ioctl.h>

#include <atomic>
#include <thread>

#include "sockets/bell/look.h"
#include "sockets/testing/test_hostile.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"

namespace shunt::sockets {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

struct HostileBell : testing::Test {
  Server server;
  Neighbour neighbour{server};
  Liar liar;
  End victim;

  HostileBell() {
    liar.reach(server);
    liar.send_connect(server);
    victim = server.accept();
    char bytes[256];
    EXPECT_EQ(256, ::recv(liar.bell, bytes, sizeof bytes, 0)) << "CONNECTED";
  }
  int on_bell() const {
    int bytes = 0;
    EXPECT_EQ(0, ::ioctl(victim.fd, FIONREAD, &bytes));
    return bytes;
  }
};

// Sends rings as fast as the kernel takes them, until it is stopped.
class Flood {
 public:
  explicit Flood(int bell) : bell_(bell), thread_([this] { run(); }) {}
  void stop() {
    stopped_ = true;
    ::shutdown(bell_, SHUT_RDWR);  // a send that waits for room ends
  }
  ~Flood() {
    stop();
    thread_.join();
  }

 private:
  void run() {
    const std::string rings(100'000, '\0');
    while (!stopped_) ::send(bell_, rings.data(), rings.size(), MSG_NOSIGNAL);
  }
  int bell_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

TEST_F(HostileBell, OneLookTakesSoManyRingsAndNoMore) {
  const std::string rings(100'000, '\0');
  ASSERT_EQ(100'000, ::send(liar.bell, rings.data(), rings.size(), MSG_DONTWAIT));
  look_at_bell(victim.fd, victim.socket);
  EXPECT_GT(100'000, on_bell());
  EXPECT_LT(50'000, on_bell());
  EXPECT_TRUE(victim.connection()->bell_state.maybe_rung.load());
  // What is left keeps nobody from sleeping and being woken.
  auto result = std::async(std::launch::async, [&] {
    char bytes[20];
    return victim.receive(bytes, sizeof bytes, 0);
  });
  EXPECT_EQ(std::future_status::timeout, result.wait_for(std::chrono::milliseconds(20)));
  liar.write(10);
  liar.ring();
  EXPECT_EQ(10, within_seconds(5, result, [&] { ::shutdown(liar.bell, SHUT_RDWR); }));
}

TEST_F(HostileBell, AFewRingsAreAllTaken) {
  const std::string rings(1000, '\0');
  ASSERT_EQ(1000, ::send(liar.bell, rings.data(), rings.size(), MSG_DONTWAIT));
  look_at_bell(victim.fd, victim.socket);
  EXPECT_EQ(0, on_bell());
  EXPECT_FALSE(victim.connection()->bell_state.maybe_rung.load());
}

TEST_F(HostileBell, AFloodOfRingsKeepsNoServerFromOthers) {
  const int epfd = epoll_create1(EPOLL_CLOEXEC);
  made_epoll(epfd);
  epoll_event event{};
  event.events = EPOLLIN;
  for (const End* each : {&victim, &neighbour.accepted}) {
    event.data.fd = each->fd;
    EXPECT_EQ(0, control_epoll(epfd, EPOLL_CTL_ADD, each->fd, &event));
  }
  Flood flood(liar.bell);
  auto result = std::async(std::launch::async, [&]() -> long {
    char byte = 'n';
    pollfd both[2] = {{victim.fd, POLLIN, 0}, {neighbour.accepted.fd, POLLIN, 0}};
    for (int round = 0; round < 50; ++round) {
      if (wait_epoll(epfd, &event, 1, 1'000'000, nullptr) != 0) return 1000 + round;
      if (wait_poll(both, 2, 1'000'000, nullptr) != 0) return 2000 + round;
      look_at_bell(victim.fd, victim.socket);
      if (neighbour.client.send(&byte, 1) != 1) return 3000 + round;
      if (wait_epoll(epfd, &event, 1, kSecondNs, nullptr) != 1) return 4000 + round;
      if (event.data.fd != neighbour.accepted.fd) return 5000 + round;
      if (neighbour.accepted.receive(&byte, 1) != 1) return 6000 + round;
    }
    return 0;
  });
  EXPECT_EQ(0, within_seconds(10, result, [&] { flood.stop(); }));
  drop_reference(take_out(epfd));
  ::close(epfd);
}

}  // namespace
}  // namespace shunt::sockets
