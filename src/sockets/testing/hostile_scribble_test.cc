// A peer that scribbles over its whole area while the victim reads, writes and waits through the
// provider's calls. Allowed: bytes, EAGAIN, or a reset. The thread sanitizer would rightly report what
// the peer does here: it races on purpose.
#if !defined(__SANITIZE_THREAD__)

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "sockets/stream/stream.h"
#include "sockets/testing/test_hostile.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"

namespace shunt::sockets {
namespace {

using layout::kSegmentBytes;
using layout::kSegmentCount;

// Any word, most often of the arena's header and the control lines.
void noise(std::span<std::uint8_t> memory, std::mt19937_64& random) {
  const std::size_t limit = random() % 4 == 0 ? memory.size() : layout::kSegmentsOffset;
  reinterpret_cast<std::atomic<std::uint64_t>*>(memory.data() + random() % (limit / 8) * 8)
      ->store(random());
}

// Values near those that are right, which get past the first checks.
void plausible(layout::Area* area, std::mt19937_64& random) {
  layout::SegmentControl& c = area->segment[random() % kSegmentCount];
  switch (random() % 8) {
    case 0:
      area->hot.head.fetch_add(random() % 70'000);
      break;
    case 1:
      c.next.store(static_cast<std::uint32_t>(random() % (kSegmentCount + 1)));
      break;
    case 2:
      c.end.store(kSegmentBytes);
      c.length.store(kSegmentBytes);
      break;
    case 3:
      c.base.store(area->hot.head.load() / kSegmentBytes * kSegmentBytes);
      break;
    case 4:
      area->hot.inline_bytes.store(static_cast<std::uint16_t>(random() % 100));
      area->hot.inline_start.store(area->hot.head.load() - random() % 100);
      break;
    case 5:
      area->tail.tail.fetch_add(random() % 1000);
      break;
    case 6:
      area->hot.tail_echo.fetch_add(random() % 1000);
      break;
    default:
      area->hot.recv_waiting.fetch_add(1);
      area->hot.send_waiting.fetch_add(1);
      break;
  }
}

struct Scribbler {
  std::atomic<bool> stop{false};
  std::thread thread;

  Scribbler(const Liar& liar, bool wild, std::uint64_t seed)
      : thread([this, &liar, wild, seed] {
          std::mt19937_64 random(seed);
          for (std::uint64_t i = 1; !stop.load(std::memory_order_relaxed); ++i) {
            wild ? noise(liar.memory(), random) : plausible(liar.area, random);
            if (i % 64 != 0) continue;
            const std::uint8_t byte = static_cast<std::uint8_t>(random());
            ::send(liar.bell, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (i % 1024 == 0) std::this_thread::yield();
          }
        }) {}
  ~Scribbler() {
    stop.store(true);
    thread.join();
  }
};

bool allowed(long n) { return n >= 0 || n == -EAGAIN || n == -ECONNRESET || n == -EPIPE; }

struct Counts {
  std::uint64_t bytes = 0;
  int attacks = 0;
};

// One connection, from its first byte to its reset, or for `ms` at most.
void attack(const Server& server, bool wild, std::mt19937_64& random, int ms, Counts& counts) {
  Liar liar;
  liar.reach(server);
  liar.send_connect(server);
  const End victim = server.accept();
  ASSERT_TRUE(victim.shunted());
  const int epfd = epoll_create1(EPOLL_CLOEXEC);
  made_epoll(epfd);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | (random() % 2 * std::uint32_t{EPOLLET});
  ASSERT_EQ(0, control_epoll(epfd, EPOLL_CTL_ADD, victim.fd, &event));
  std::vector<char> buffer(256 * 1024);
  {
    liar.write(random() % 200'000);
    const Scribbler scribbler(liar, wild, random());
    const std::int64_t end = sys::monotonic_ns() + ms * std::int64_t{1'000'000};
    while (sys::monotonic_ns() < end) {
      const std::size_t size = random() % buffer.size();
      const int flags = MSG_DONTWAIT | (random() % 4 == 0 ? MSG_PEEK : 0);
      const long got = victim.receive(buffer.data(), size, flags);
      const long sent = victim.send(buffer.data(), size);
      ASSERT_TRUE(allowed(got)) << got;
      ASSERT_TRUE(allowed(sent)) << sent;
      counts.bytes += static_cast<std::uint64_t>(std::max(got, 0L) + std::max(sent, 0L));
      pollfd p{victim.fd, POLLIN | POLLOUT, 0};
      ASSERT_GE(wait_poll(&p, 1, 100'000, nullptr).value(), 0);
      ASSERT_GE(wait_epoll(epfd, &event, 1, 100'000, nullptr).value(), 0);
      ASSERT_LE(bytes_available(victim.socket), layout::kStreamBytes);
      ASSERT_LE(bytes_unsent(victim.socket), layout::kStreamBytes);
      if (got == -ECONNRESET || sent == -ECONNRESET || sent == -EPIPE) break;
    }
  }
  ++counts.attacks;
  ::close(epfd);
  drop_reference(take_out(epfd));
}

void survive(bool wild) {
  const Server server;
  const Neighbour neighbour(server);
  neighbour.expect_unharmed();  // all its areas are there from now on
  const std::uint64_t resets = untrusted_resets();
  const Holdings before = Holdings::now();
  std::mt19937_64 random(wild ? 1 : 2);
  Counts counts;
  const std::int64_t end = sys::monotonic_ns() + 1'000'000'000;
  while (sys::monotonic_ns() < end && !testing::Test::HasFatalFailure()) {
    attack(server, wild, random, 50, counts);
    neighbour.expect_unharmed();
  }
  EXPECT_EQ(before, Holdings::now());
  EXPECT_GT(untrusted_resets(), resets);
  EXPECT_LE(untrusted_resets(), resets + static_cast<std::uint64_t>(counts.attacks));
  EXPECT_GT(counts.bytes, 0u);
}

TEST(HostileScribble, NoiseOverTheWholeArea) { survive(true); }
TEST(HostileScribble, ValuesThatLookRight) { survive(false); }

}  // namespace
}  // namespace shunt::sockets

#endif
