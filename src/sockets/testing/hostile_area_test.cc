// A peer that writes nonsense into its own area, towards a victim that uses the provider's calls: the
// victim's next look ends with ECONNRESET, in bounded time; nothing else changes.
#include <functional>

#include "sockets/stream/stream.h"
#include "sockets/testing/test_hostile.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"

namespace shunt::sockets {
namespace {

using layout::kSegmentBytes;
using layout::kStreamBytes;

enum class Role { kClient, kListener };

struct Lie {
  const char* name;
  std::function<void(Liar&)> prepare;  // before the victim waits
  std::function<void(Liar&)> tell;
};

void nothing(Liar&) {}

const std::vector<Lie>& lies_to_a_reader() {
  static const std::vector<Lie> lies = {
      {"HeadBeyondTheWindow", nothing, [](Liar& l) { l.area->hot.head.store(kStreamBytes + 1); }},
      {"HeadFarBeyond", nothing, [](Liar& l) { l.area->hot.head.store(~std::uint64_t{0}); }},
      {"HeadBackwards", [](Liar& l) { l.write(100); }, [](Liar& l) { l.area->hot.head.store(50); }},
      {"HeadWithoutSegments", nothing, [](Liar& l) { l.area->hot.head.store(kStreamBytes); }},
      {"LinksInACycle", nothing,
       [](Liar& l) {
         l.write(3 * kSegmentBytes);
         l.area->segment[1].next.store(0);
         l.area->hot.head.store(kStreamBytes);
       }},
      {"LinkOutOfRange", nothing,
       [](Liar& l) {
         l.write(kSegmentBytes);
         l.area->segment[0].next.store(0xffffffff);
         l.area->hot.head.store(2 * kSegmentBytes);
       }},
      {"WrongLength", nothing,
       [](Liar& l) {
         l.write(kSegmentBytes);
         l.area->segment[0].length.store(1);
         l.area->hot.head.store(2 * kSegmentBytes);
       }},
      {"ChangedGeneration", nothing, [](Liar& l) { l.area->hot.generation.fetch_add(1); }},
  };
  return lies;
}

class HostileArea : public testing::TestWithParam<Role> {
 protected:
  Server server;
  Neighbour neighbour{server};
  std::uint64_t resets = untrusted_resets();

  struct Attack {
    Liar liar;
    End victim;
  };

  std::unique_ptr<Attack> attack() {
    auto a = std::make_unique<Attack>();
    if (GetParam() == Role::kClient) {
      a->liar.reach(server);
      a->liar.send_connect(server);
      a->victim = server.accept();
      char bytes[256];
      EXPECT_EQ(256, ::recv(a->liar.bell, bytes, sizeof bytes, 0)) << "CONNECTED";
    } else {
      const HostileListener listener;
      a->victim = connect_to(listener.local);
      listener.take(a->liar);
      answer(a->liar, connected_message(a->liar), a->liar.area_fd);
    }
    EXPECT_TRUE(a->victim.shunted());
    char byte;
    EXPECT_EQ(-EAGAIN, a->victim.receive(&byte, 1));
    return a;
  }
  // Reads what there is up to the answer that ends it; the lie may come with some bytes.
  static long receive_all(const End& victim, int flags) {
    std::string bytes(kStreamBytes, '\0');
    std::uint64_t total = 0;
    for (;;) {
      const long n = victim.receive(bytes.data(), bytes.size(), flags);
      if (n <= 0) return n;
      total += static_cast<std::uint64_t>(n);
      if (total > kStreamBytes) return n;
    }
  }
  void fill(const End& victim) {
    const std::string bytes(kStreamBytes, 'y');
    while (victim.send(bytes.data(), bytes.size()) > 0) {
    }
  }
  // The reset has been reported; what follows is what follows on TCP.
  void expect_dead(const Attack& a) {
    char byte = 'z';
    EXPECT_EQ(0, a.victim.receive(&byte, 1));
    EXPECT_EQ(-EPIPE, a.victim.send(&byte, 1));
    EXPECT_EQ(POLLIN | POLLOUT | POLLHUP,
              stream_events(a.victim.socket, POLLIN | POLLOUT) & (POLLIN | POLLOUT | POLLHUP));
    EXPECT_EQ(resets + 1, untrusted_resets());
    neighbour.expect_unharmed();
    resets = untrusted_resets();
  }
  // Runs `call` in a thread that goes to sleep, then tells the lie and rings.
  long while_asleep(Attack& a, const Lie& lie, std::function<long()> call) {
    auto result = std::async(std::launch::async, std::move(call));
    EXPECT_EQ(std::future_status::timeout, result.wait_for(std::chrono::milliseconds(20)));
    lie.tell(a.liar);
    a.liar.ring();
    return within_seconds(5, result, [&] {
      ::close(a.liar.bell);
      a.liar.bell = -1;
    });
  }
  static int epoll_on(const Attack& a, std::uint32_t events) {
    const int epfd = epoll_create1(EPOLL_CLOEXEC);
    made_epoll(epfd);
    epoll_event event{};
    event.events = events;
    EXPECT_EQ(0, control_epoll(epfd, EPOLL_CTL_ADD, a.victim.fd, &event));
    return epfd;
  }
};

constexpr std::int64_t kSecondNs = 1'000'000'000;

TEST_P(HostileArea, ReceiveFindsTheLie) {
  for (const Lie& lie : lies_to_a_reader()) {
    SCOPED_TRACE(lie.name);
    const auto a = attack();
    lie.prepare(a->liar);
    char bytes[100];
    a->victim.receive(bytes, sizeof bytes);
    lie.tell(a->liar);
    EXPECT_EQ(-ECONNRESET, receive_all(a->victim, MSG_DONTWAIT));
    expect_dead(*a);
  }
}

TEST_P(HostileArea, ASleepingReceiveIsWoken) {
  for (const Lie& lie : lies_to_a_reader()) {
    SCOPED_TRACE(lie.name);
    const auto a = attack();
    lie.prepare(a->liar);
    char bytes[100];
    a->victim.receive(bytes, sizeof bytes);
    EXPECT_EQ(-ECONNRESET, while_asleep(*a, lie, [&] { return receive_all(a->victim, 0); }));
    expect_dead(*a);
  }
}

TEST_P(HostileArea, EpollReportsIt) {
  for (const std::uint32_t mode : {std::uint32_t{0}, std::uint32_t{EPOLLET}}) {
    for (const Lie& lie : lies_to_a_reader()) {
      SCOPED_TRACE(lie.name);
      const auto a = attack();
      lie.prepare(a->liar);
      char bytes[100];
      a->victim.receive(bytes, sizeof bytes);
      const int epfd = epoll_on(*a, EPOLLIN | EPOLLRDHUP | mode);
      epoll_event event{};
      const auto wait = [&] { return wait_epoll(epfd, &event, 1, -1, nullptr).value(); };
      EXPECT_EQ(1, while_asleep(*a, lie, wait));
      EXPECT_NE(0u, event.events & (EPOLLIN | EPOLLERR));
      EXPECT_EQ(-ECONNRESET, receive_all(a->victim, MSG_DONTWAIT));
      // Level-triggered it stays readable (end of file); edge-triggered at most the end is new.
      const long again = wait_epoll(epfd, &event, 1, kSecondNs / 50, nullptr).value();
      EXPECT_TRUE(again == 0 || (event.events & EPOLLHUP) != 0);
      EXPECT_TRUE(again == 1 || mode == EPOLLET);
      EXPECT_EQ(mode == 0, wait_epoll(epfd, &event, 1, kSecondNs / 50, nullptr) == 1);
      expect_dead(*a);
      ::close(epfd);
      drop_reference(take_out(epfd));
    }
  }
}

TEST_P(HostileArea, PollReportsIt) {
  for (const Lie& lie : lies_to_a_reader()) {
    SCOPED_TRACE(lie.name);
    const auto a = attack();
    lie.prepare(a->liar);
    char bytes[100];
    a->victim.receive(bytes, sizeof bytes);
    pollfd p{a->victim.fd, POLLIN, 0};
    EXPECT_EQ(1, while_asleep(*a, lie, [&] { return wait_poll(&p, 1, -1, nullptr).value(); }));
    EXPECT_NE(0, p.revents & (POLLIN | POLLERR));
    EXPECT_EQ(-ECONNRESET, receive_all(a->victim, MSG_DONTWAIT));
    EXPECT_EQ(1, wait_poll(&p, 1, 0, nullptr));
    EXPECT_NE(0, p.revents & POLLHUP);
    expect_dead(*a);
  }
}

const std::vector<Lie>& lies_to_a_writer() {
  static const std::vector<Lie> lies = {
      {"TailBeyond", nothing, [](Liar& l) { l.area->tail.tail.store(kStreamBytes + 1); }},
      {"TailFarBeyond", nothing, [](Liar& l) { l.area->tail.tail.store(~std::uint64_t{0}); }},
      {"SaysPlain", nothing, [](Liar& l) { l.area->hot.flags.store(layout::kFlagPlain); }},
      {"TailBackwards", [](Liar& l) { l.area->tail.tail.store(100); },
       [](Liar& l) { l.area->tail.tail.store(99); }},
  };
  return lies;
}

TEST_P(HostileArea, SendFindsTheLie) {
  for (const Lie& lie : lies_to_a_writer()) {
    SCOPED_TRACE(lie.name);
    const auto a = attack();
    lie.prepare(a->liar);
    fill(a->victim);
    lie.tell(a->liar);
    EXPECT_EQ(-ECONNRESET, a->victim.send("x", 1));
    expect_dead(*a);
  }
}

TEST_P(HostileArea, ASleepingSendIsWoken) {
  for (const Lie& lie : lies_to_a_writer()) {
    SCOPED_TRACE(lie.name);
    const auto a = attack();
    lie.prepare(a->liar);
    fill(a->victim);
    EXPECT_EQ(-ECONNRESET, while_asleep(*a, lie, [&] { return a->victim.send("x", 1, 0); }));
    expect_dead(*a);
  }
}

TEST_P(HostileArea, WaitsForSpaceReportIt) {
  for (const std::uint32_t mode : {std::uint32_t{0}, std::uint32_t{EPOLLET}}) {
    for (const Lie& lie : lies_to_a_writer()) {
      SCOPED_TRACE(lie.name);
      const auto a = attack();
      lie.prepare(a->liar);
      fill(a->victim);
      const int epfd = epoll_on(*a, EPOLLOUT | mode);
      epoll_event event{};
      const auto wait = [&] { return wait_epoll(epfd, &event, 1, -1, nullptr).value(); };
      EXPECT_EQ(1, while_asleep(*a, lie, wait));
      EXPECT_NE(0u, event.events & (EPOLLOUT | EPOLLERR));
      pollfd p{a->victim.fd, POLLOUT, 0};
      EXPECT_EQ(1, wait_poll(&p, 1, 0, nullptr));
      EXPECT_NE(0, p.revents & POLLERR);
      EXPECT_EQ(-ECONNRESET, a->victim.send("x", 1));
      expect_dead(*a);
      ::close(epfd);
      drop_reference(take_out(epfd));
    }
  }
}

// Nonsense that is no lie about the stream: nothing comes of it, and nobody burns a CPU over it.
TEST_P(HostileArea, NonsenseCostsTheVictimNoTime) {
  const auto quiet = [](const char* name, const std::function<long()>& call) {
    long result = 0;
    EXPECT_GT(150, cpu_ms([&] { result = call(); })) << name;
    return result;
  };
  const std::uint32_t cap = spin_cap_us;
  spin_cap_us = 80;  // as on a machine with several CPUs
  for (const bool shut_bell : {false, true}) {
    SCOPED_TRACE(shut_bell ? "shut bell" : "unknown flags, odd epochs");
    const auto a = attack();
    if (shut_bell) {
      ::shutdown(a->liar.bell, SHUT_WR);  // its end is readable for ever
    } else {
      a->liar.area->hot.flags.store(0xfff0);
      a->liar.area->hot.recv_waiting.store(0xffffffff);
      a->liar.area->hot.send_waiting.store(0xffffffff);
    }
    fill(a->victim);
    a->victim.connection()->read_timeout_ns = kSecondNs / 2;
    a->victim.connection()->write_timeout_ns = kSecondNs / 2;
    char byte = 0;
    EXPECT_EQ(-EAGAIN, quiet("receive", [&] { return a->victim.receive(&byte, 1, 0); }));
    EXPECT_EQ(-EAGAIN, quiet("send", [&] { return a->victim.send(&byte, 1, 0); }));
    pollfd p{a->victim.fd, POLLIN | POLLOUT, 0};
    EXPECT_EQ(0, quiet("poll", [&] { return wait_poll(&p, 1, kSecondNs / 2, nullptr).value(); }));
    const int epfd = epoll_on(*a, EPOLLIN | EPOLLOUT);
    epoll_event event{};
    EXPECT_EQ(0, quiet("epoll", [&] {
                return wait_epoll(epfd, &event, 1, kSecondNs / 2, nullptr).value();
              }));
    ::close(epfd);
    drop_reference(take_out(epfd));
  }
  spin_cap_us = cap;
  EXPECT_EQ(resets, untrusted_resets());
  neighbour.expect_unharmed();
}

INSTANTIATE_TEST_SUITE_P(By, HostileArea, testing::Values(Role::kClient, Role::kListener),
                         [](const auto& role) {
                           return role.param == Role::kClient ? "Client" : "Listener";
                         });

}  // namespace
}  // namespace shunt::sockets
