// Somebody with the window's device writes at random over both areas of a connection to another kernel, its fate line
// and the own area's words among them, while the provider's calls go on. Allowed: bytes, EAGAIN, the connection's end.
// The thread sanitizer would rightly report the scribbler: it races on purpose.
#if !defined(__SANITIZE_THREAD__)

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "base/scribble_test_util.h"
#include "sockets/bell/bell.h"
#include "sockets/bell/look.h"
#include "sockets/process/result.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_relayed.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"

namespace shunt::sockets {
namespace {

using namespace std::chrono_literals;

bool allowed(long n) { return n >= 0 || n == -EAGAIN || n == -ECONNRESET || n == -EPIPE; }

enum class Over { kPeersArea, kOwnArea, kBoth };

class Scribbling {
 public:
  Scribbling(const FakeRangeDriver& driver, Over over, std::uint64_t seed)
      : thread_([this, &driver, over, seed] {
          Scribble(places(driver, over, layout::kAreaBytes),
                   places(driver, over, layout::kSegmentsOffset), seed)
              .until(stop_, 1ms);
        }) {}
  ~Scribbling() { stop(); }
  void stop() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  static std::vector<Scribble::Place> places(const FakeRangeDriver& driver, Over over,
                                             std::size_t bytes) {
    std::vector<Scribble::Place> result;
    if (over != Over::kOwnArea) {
      result.emplace_back(reinterpret_cast<std::uint8_t*>(driver.peer), bytes);
    }
    if (over != Over::kPeersArea) {
      result.emplace_back(reinterpret_cast<std::uint8_t*>(driver.own), bytes);
    }
    return result;
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Counts {
  std::uint64_t bytes = 0;
  int connected = 0;
  int ended = 0;
};

// One connection from its beginning to its end, or to that of the driver.
class Attack {
 public:
  Attack(Over over, std::uint64_t seed, Counts& counts)
      : random_(seed), counts_(counts), over_(over) {}

  void run() {
    // Half of them also while they are set up.
    auto scribbling = random_() % 2 == 0 ? scribble() : nullptr;
    if (!connect()) return;
    ++counts_.connected;
    if (!scribbling) {
      driver_.write(random_() % 60'000);
      scribbling = scribble();
    }
    if (random_() % 2 == 0) {
      call_without_blocking();
    } else {
      block(*scribbling);
    }
  }

 private:
  std::unique_ptr<Scribbling> scribble() {
    return std::make_unique<Scribbling>(driver_, over_, random_());
  }
  // False: the provider saw the damage in time. That is a refusal, not a connection.
  bool connect() {
    std::thread serving([&] { driver_.serve(kOwn, kOwnGeneration, reopened(driver_.device)); });
    const sockaddr_in in = there();
    const Outcome r = connect_socket(client_.fd, client_.socket,
                                     reinterpret_cast<const sockaddr*>(&in), sizeof in);
    serving.join();
    EXPECT_TRUE(r == 0 || r == kPassOn) << r.value_or(1);
    if (r != 0) return false;
    driver_.connected();
    return client_.shunted();
  }
  void ring() {
    if (random_() % 4 == 0) ::send(driver_.bell, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void call_without_blocking() {
    const int epfd = epoll_create1(EPOLL_CLOEXEC);
    made_epoll(epfd);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | (random_() % 2 * std::uint32_t{EPOLLET});
    EXPECT_EQ(0, control_epoll(epfd, EPOLL_CTL_ADD, client_.fd, &event));
    std::vector<char> buffer(256 * 1024);
    const auto end = std::chrono::steady_clock::now() + 40ms;
    bool over = false;
    while (!over && std::chrono::steady_clock::now() < end) {
      const std::size_t size = random_() % buffer.size();
      const int flags = MSG_DONTWAIT | (random_() % 4 == 0 ? MSG_PEEK : 0);
      const long got = client_.receive(buffer.data(), size, flags);
      const long sent = client_.send(buffer.data(), size);
      EXPECT_TRUE(allowed(got)) << got;
      EXPECT_TRUE(allowed(sent)) << sent;
      counts_.bytes += static_cast<std::uint64_t>(std::max(got, 0L) + std::max(sent, 0L));
      ring();
      pollfd p{client_.fd, POLLIN | POLLOUT, 0};
      EXPECT_GE(wait_poll(&p, 1, 100'000, nullptr).value(), 0);
      EXPECT_GE(wait_epoll(epfd, &event, 1, 100'000, nullptr).value(), 0);
      EXPECT_LE(bytes_available(client_.socket), layout::kStreamBytes);
      EXPECT_LE(bytes_unsent(client_.socket), layout::kStreamBytes);
      look_at_bell(client_.fd, client_.socket);
      over = got == -ECONNRESET || sent == -ECONNRESET || sent == -EPIPE;
    }
    counts_.ended += over;
    ::close(epfd);
    drop_reference(take_out(epfd));
  }

  // A reader that sleeps must wake when the driver ends the connection, whatever the words say by then.
  void block(Scribbling& scribbling) {
    auto result = std::async(std::launch::async, [&] {
      std::vector<char> buffer(64 * 1024);
      long n;
      while ((n = client_.receive(buffer.data(), buffer.size(), 0)) > 0) {
        counts_.bytes += static_cast<std::uint64_t>(n);
      }
      return n;
    });
    const auto end = std::chrono::steady_clock::now() + 20ms;
    while (std::chrono::steady_clock::now() < end) {
      ring();
      std::this_thread::yield();
    }
    if (random_() % 2 == 0) scribbling.stop();
    driver_.die();
    const long n = within_seconds(20, result, [&] { ::shutdown(client_.fd, SHUT_RDWR); });
    EXPECT_TRUE(n == 0 || n == -ECONNRESET) << n;
    ++counts_.ended;
  }

  std::mt19937_64 random_;
  Counts& counts_;
  Over over_;
  FakeRangeDriver driver_;
  End client_ = tcp_socket();
};

class RelayedScribble : public testing::TestWithParam<Over> {};

TEST_P(RelayedScribble, EndsOrGoesOnAndHurtsNobodyElse) {
  const Server server;
  const Neighbour neighbour(server);
  neighbour.expect_unharmed();
  const std::uint64_t resets = untrusted_resets();
  const Holdings before = Holdings::now();
  Counts counts;
  for (std::uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Attack(GetParam(), seed * 3 + static_cast<std::uint64_t>(GetParam()), counts).run();
    neighbour.expect_unharmed();
  }
  EXPECT_EQ(before, Holdings::now());
  // Of the own area only the fate is ever read.
  EXPECT_EQ(GetParam() != Over::kOwnArea, untrusted_resets() > resets);
  EXPECT_GT(counts.connected, 10);
  EXPECT_GT(counts.ended, 5);
  EXPECT_GT(counts.bytes, 0u);
}

std::string over_name(const testing::TestParamInfo<Over>& over) {
  constexpr const char* kNames[] = {"PeersArea", "OwnArea", "Both"};
  return kNames[static_cast<int>(over.param)];
}
INSTANTIATE_TEST_SUITE_P(Damage, RelayedScribble,
                         testing::Values(Over::kPeersArea, Over::kOwnArea, Over::kBoth), over_name);

}  // namespace
}  // namespace shunt::sockets

#endif
