// epoll: level and edge triggered, one-shot, registration rules, mixes of descriptors.
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "net.h"

namespace shunt::test {
namespace {

constexpr std::uint64_t kTag = 0xfedcba9876543210U;

class Epoll {
 public:
  Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  int control(int operation, int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    return epoll_ctl(fd_, operation, fd, &event);
  }
  void add(int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    ASSERT_EQ(control(EPOLL_CTL_ADD, fd, events, tag), 0) << strerror(errno);
  }
  void modify(int fd, std::uint32_t events, std::uint64_t tag = kTag) {
    ASSERT_EQ(control(EPOLL_CTL_MOD, fd, events, tag), 0) << strerror(errno);
  }
  // The events of the only ready descriptor; 0 when nothing is ready in time.
  std::uint32_t wait(int timeout_ms = kWaitMs, std::uint64_t tag = kTag) {
    epoll_event event[4]{};
    const int n = epoll_wait(fd_, event, 4, timeout_ms);
    EXPECT_GE(n, 0) << strerror(errno);
    EXPECT_LE(n, 1);
    if (n != 1) return 0;
    EXPECT_EQ(event[0].data.u64, tag);
    return event[0].events;
  }
  int fd() const { return fd_; }

 private:
  Fd fd_;
};

class Later {
 public:
  explicit Later(std::function<void()> action)
      : thread_([action = std::move(action)] {
          std::this_thread::sleep_for(std::chrono::milliseconds(40));
          action();
        }) {}
  ~Later() { thread_.join(); }

 private:
  std::thread thread_;
};

constexpr int kQuietMs = 15;  // long enough to believe that nothing more comes

TEST(Epoll, LevelTriggeredRepeats) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  EXPECT_EQ(e.wait(0), 0U);
  send_all(p.client, "abc");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(e.wait(), EPOLLIN);
  recv_exact(p.server, 2);
  EXPECT_EQ(e.wait(), EPOLLIN);
  recv_exact(p.server, 1);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, LevelTriggeredOut) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.client, EPOLLOUT);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  EXPECT_EQ(e.wait(0), 0U);
  drain(p.server, taken);
  EXPECT_EQ(e.wait(), EPOLLOUT);
}

TEST(Epoll, EdgeTriggeredOncePerArrival) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  send_all(p.client, "abc");
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  send_all(p.client, "def");  // not drained: new data is a new edge all the same
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(recv_exact(p.server, 6), "abcdef");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, EdgeTriggeredInAndOut) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLOUT);
  shutdown(p.client, SHUT_WR);
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, EdgeTriggeredRoom) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  Epoll e;
  e.add(p.client, EPOLLOUT | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  const std::size_t taken = fill(p.client);
  EXPECT_LE(e.wait(0), EPOLLOUT);  // room that came and went while filling
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  Later later([&] { drain(p.server, taken); });
  EXPECT_EQ(e.wait(), EPOLLOUT);
  EXPECT_GT(send(p.client, "x", 1, 0), 0);
}

// The pattern of every edge-triggered server: read to EAGAIN, wait, over and over.
TEST(Epoll, EdgeTriggeredLosesNothing) {
  Pair p = connected_pair();
  set_nonblocking(p.server);
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET | EPOLLRDHUP);
  const std::string data = pattern(4 << 20, 11);
  std::thread sender([&] {
    std::size_t at = 0;
    std::size_t step = 1;
    while (at < data.size()) {
      const std::size_t n = std::min(step, data.size() - at);
      send_all(p.client, data.substr(at, n));
      at += n;
      step = step * 7 % 60'013 + 1;
    }
    p.client.reset();
  });
  std::string got;
  std::string block(9000, '\0');
  bool end = false;
  while (!end) {
    const std::uint32_t events = e.wait();
    ASSERT_NE(events, 0U) << "lost an edge after " << got.size();
    for (;;) {
      const ssize_t n = recv(p.server, block.data(), block.size(), 0);
      if (n == 0) end = true;
      if (n <= 0) break;
      got.append(block, 0, static_cast<std::size_t>(n));
    }
  }
  sender.join();
  EXPECT_TRUE(got == data);
}

TEST(Epoll, OneShot) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLONESHOT);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  send_all(p.client, "y");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLONESHOT);
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLONESHOT | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN);
  p.client.reset();
  EXPECT_EQ(e.wait(kQuietMs), 0U) << "disabled: not even a hang-up is reported";
}

TEST(Epoll, PeerClose) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLRDHUP);
  Later later([&] { p.client.reset(); });
  EXPECT_EQ(e.wait(), EPOLLIN | EPOLLRDHUP);
  shutdown(p.server, SHUT_WR);
  std::uint32_t events = 0;
  Stopwatch watch;
  while ((events & EPOLLHUP) == 0 && watch.ms() < kWaitMs) events = e.wait();
  EXPECT_EQ(events, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

TEST(Epoll, Reset) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.client, 0);  // errors and hang-ups are always reported
  send_all(p.client, "unread");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(e.wait(0), 0U);
  p.server.reset();
  EXPECT_EQ(e.wait(), EPOLLERR | EPOLLHUP);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(e.wait(), EPOLLHUP);
}

TEST(Epoll, ModifyChangesEventsAndData) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN, 1);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(kWaitMs, 1), EPOLLIN);
  e.modify(p.server, EPOLLOUT, 2);
  EXPECT_EQ(e.wait(kWaitMs, 2), EPOLLOUT);
  e.modify(p.server, 0, 3);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLOUT, 4);
  EXPECT_EQ(e.wait(kWaitMs, 4), EPOLLIN | EPOLLOUT);
}

TEST(Epoll, ModifyReportsWhatIsPending) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  e.modify(p.server, EPOLLIN | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN) << "MOD is how edge-triggered programs ask again";
}

TEST(Epoll, AddReportsWhatIsPending) {
  Pair p = connected_pair();
  send_all(p.client, "x");
  wait_for(p.server, POLLIN);
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  EXPECT_EQ(e.wait(), EPOLLIN);
}

TEST(Epoll, RegistrationErrors) {
  Pair p = connected_pair();
  Epoll e;
  EXPECT_EQ(e.control(EPOLL_CTL_MOD, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(e.control(EPOLL_CTL_DEL, p.server, 0), -1);
  EXPECT_EQ(errno, ENOENT);
  e.add(p.server, EPOLLIN);
  EXPECT_EQ(e.control(EPOLL_CTL_ADD, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(epoll_ctl(e.fd(), EPOLL_CTL_DEL, p.server, nullptr), 0);
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  EXPECT_EQ(e.control(EPOLL_CTL_ADD, -1, EPOLLIN), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(e.control(99, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, EINVAL);
  epoll_event event;
  EXPECT_EQ(epoll_wait(e.fd(), &event, 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(epoll_wait(p.server, &event, 1, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  epoll_event in{EPOLLIN, {}};
  EXPECT_EQ(epoll_ctl(p.server, EPOLL_CTL_ADD, p.client, &in), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Epoll, CloseRemoves) {
  Epoll e;
  Pair p = connected_pair();
  const int number = p.server;
  e.add(p.server, EPOLLIN);
  p.server.reset();
  EXPECT_EQ(e.control(EPOLL_CTL_MOD, number, EPOLLIN), -1);
  EXPECT_EQ(errno, EBADF);
  Pair q = connected_pair();  // takes the number again
  send_all(q.client, "x");
  EXPECT_EQ(e.wait(kQuietMs), 0U);
  EXPECT_EQ(e.control(EPOLL_CTL_DEL, q.server, 0), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST(Epoll, RegistrationLivesWhileADuplicateLives) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  Fd copy(dup(p.server));
  p.server.reset();
  send_all(p.client, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
  copy.reset();
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, DuplicatesAreSeparateEntries) {
  Pair p = connected_pair();
  Fd copy(dup(p.server));
  Epoll e;
  e.add(p.server, EPOLLIN, 1);
  e.add(copy, EPOLLIN, 2);
  send_all(p.client, "x");
  wait_for(p.server, POLLIN);
  epoll_event events[4];
  EXPECT_EQ(epoll_wait(e.fd(), events, 4, kWaitMs), 2);
  EXPECT_EQ(events[0].data.u64 + events[1].data.u64, 3U);
}

TEST(Epoll, TwoSets) {
  Pair p = connected_pair();
  Epoll a;
  Epoll b;
  a.add(p.server, EPOLLIN, 1);
  b.add(p.server, EPOLLIN | EPOLLET, 2);
  send_all(p.client, "x");
  EXPECT_EQ(a.wait(kWaitMs, 1), EPOLLIN);
  EXPECT_EQ(b.wait(kWaitMs, 2), EPOLLIN);
  EXPECT_EQ(a.wait(kWaitMs, 1), EPOLLIN);
  EXPECT_EQ(b.wait(kQuietMs), 0U);
}

TEST(Epoll, Listener) {
  Fd listener = listen_on();
  set_nonblocking(listener);
  Epoll e;
  e.add(listener, EPOLLIN);
  EXPECT_EQ(e.wait(0), 0U);
  std::vector<Fd> clients;
  Later later([&] {
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to("127.0.0.1", port_of(listener)));
  });
  int accepted = 0;
  while (accepted < 3) {
    ASSERT_EQ(e.wait(), EPOLLIN);
    Fd server(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
    if (server >= 0) ++accepted;
  }
  EXPECT_EQ(e.wait(kQuietMs), 0U);
}

TEST(Epoll, ListenerEdgeTriggered) {
  Fd listener = listen_on();
  set_nonblocking(listener);
  Epoll e;
  e.add(listener, EPOLLIN | EPOLLET);
  for (int round = 0; round < 5; ++round) {
    Fd c1 = connect_to("127.0.0.1", port_of(listener));
    Fd c2 = connect_to("127.0.0.1", port_of(listener));
    EXPECT_EQ(e.wait(), EPOLLIN);
    int accepted = 0;
    for (;;) {
      Fd server(accept(listener, nullptr, nullptr));
      if (server < 0) break;
      ++accepted;
    }
    EXPECT_EQ(accepted, 2);
  }
}

TEST(Epoll, RegisteredBeforeConnect) {
  Fd listener = listen_on();
  Fd client = tcp_socket(AF_INET, SOCK_NONBLOCK);
  Epoll e;
  e.add(client, EPOLLIN | EPOLLOUT);
  EXPECT_EQ(e.wait(0), EPOLLOUT | EPOLLHUP);
  const Address address("127.0.0.1", port_of(listener));
  EXPECT_EQ(connect(client, address.get(), address.length), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  Fd server = accept_from(listener);
  e.modify(client, EPOLLIN);
  send_all(server, "x");
  EXPECT_EQ(e.wait(), EPOLLIN);
}

TEST(Epoll, RegisteredWhileConnecting) {
  Fd listener = listen_on();
  Fd client = tcp_socket(AF_INET, SOCK_NONBLOCK);
  const Address address("127.0.0.1", port_of(listener));
  EXPECT_EQ(connect(client, address.get(), address.length), -1);
  Epoll e;
  e.add(client, EPOLLOUT | EPOLLIN | EPOLLET | EPOLLRDHUP);
  EXPECT_EQ(e.wait(), EPOLLOUT);
  Fd server = accept_from(listener);
  send_all(server, "x");
  EXPECT_EQ(e.wait() & EPOLLIN, EPOLLIN);
}

TEST(Epoll, MixOfKinds) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Pair p = connected_pair();
  Epoll e;
  e.add(pipe_fds[0], EPOLLIN, 1);
  e.add(p.server, EPOLLIN, 2);
  {
    Later later([&] { (void)!write(pipe_fds[1], "x", 1); });
    EXPECT_EQ(e.wait(kWaitMs, 1), EPOLLIN);
  }
  char byte;
  EXPECT_EQ(read(pipe_fds[0], &byte, 1), 1);
  {
    Later later([&] { send_all(p.client, "x"); });
    EXPECT_EQ(e.wait(kWaitMs, 2), EPOLLIN);
  }
  (void)!write(pipe_fds[1], "x", 1);
  epoll_event events[4];
  EXPECT_EQ(epoll_wait(e.fd(), events, 4, kWaitMs), 2) << "neither kind starves the other";
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(Epoll, FewSlotsManyReady) {
  Epoll e;
  Fd listener = listen_on();
  std::vector<Pair> pairs;
  for (std::uint64_t i = 0; i < 10; ++i) {
    Fd client = connect_to("127.0.0.1", port_of(listener));
    pairs.push_back({std::move(client), accept_from(listener)});
    e.add(pairs.back().server, EPOLLIN, i);
    send_all(pairs.back().client, "x");
    wait_for(pairs.back().server, POLLIN);
  }
  std::map<std::uint64_t, int> seen;
  for (int round = 0; round < 10; ++round) {
    epoll_event events[3];
    ASSERT_EQ(epoll_wait(e.fd(), events, 3, kWaitMs), 3);
    for (const auto& event : events) ++seen[event.data.u64];
  }
  EXPECT_EQ(seen.size(), 10U) << "every ready descriptor gets its turn";
}

TEST(Epoll, Nested) {
  Pair p = connected_pair();
  Epoll inner;
  Epoll outer;
  inner.add(p.server, EPOLLIN, 1);
  outer.add(inner.fd(), EPOLLIN, 2);
  EXPECT_EQ(outer.wait(0), 0U);
  {
    Later later([&] { send_all(p.client, "x"); });
    EXPECT_EQ(outer.wait(kWaitMs, 2), EPOLLIN);
  }
  EXPECT_EQ(inner.wait(kWaitMs, 1), EPOLLIN);
  recv_exact(p.server, 1);
  EXPECT_EQ(outer.wait(kQuietMs), 0U);
}

TEST(Epoll, PolledAsADescriptor) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  EXPECT_EQ(wait_for(e.fd(), POLLIN, kQuietMs), 0);
  {
    Later later([&] { send_all(p.client, "x"); });
    EXPECT_EQ(wait_for(e.fd(), POLLIN), POLLIN);
  }
  EXPECT_EQ(e.wait(), EPOLLIN);
  recv_exact(p.server, 1);
  EXPECT_EQ(wait_for(e.fd(), POLLIN, kQuietMs), 0);
}

TEST(Epoll, AddFromAnotherThreadWakes) {
  Pair p = connected_pair();
  send_all(p.client, "x");
  Epoll e;
  Later later([&] { e.add(p.server, EPOLLIN); });
  EXPECT_EQ(e.wait(), EPOLLIN);
}

TEST(Epoll, TwoWaitersOneEdge) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN | EPOLLET);
  std::atomic<int> woken{0};
  auto waiter = [&] {
    epoll_event event;
    if (epoll_wait(e.fd(), &event, 1, 300) == 1) ++woken;
  };
  std::thread a(waiter);
  std::thread b(waiter);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  send_all(p.client, "x");
  a.join();
  b.join();
  EXPECT_EQ(woken, 1);
}

TEST(Epoll, Timeouts) {
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  Stopwatch watch;
  EXPECT_EQ(e.wait(60), 0U);
  EXPECT_GE(watch.ms(), 59);
  epoll_event event;
  const timespec brief{0, 30'000'000};
  Stopwatch second;
  EXPECT_EQ(epoll_pwait2(e.fd(), &event, 1, &brief, nullptr), 0);
  EXPECT_GE(second.ms(), 29);
}

void do_nothing(int) {}

TEST(Epoll, SignalsInterrupt) {
  SignalHandler handler(SIGUSR1, do_nothing, SA_RESTART);
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  epoll_event event;
  EXPECT_EQ(epoll_wait(e.fd(), &event, 1, kWaitMs), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Epoll, PwaitMask) {
  SignalHandler handler(SIGUSR1, do_nothing, 0);
  sigset_t block;
  sigset_t old;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &block, &old);
  Pair p = connected_pair();
  Epoll e;
  e.add(p.server, EPOLLIN);
  pthread_kill(pthread_self(), SIGUSR1);
  epoll_event event;
  EXPECT_EQ(epoll_pwait(e.fd(), &event, 1, 20, nullptr), 0);
  EXPECT_EQ(epoll_pwait(e.fd(), &event, 1, kWaitMs, &old), -1);
  EXPECT_EQ(errno, EINTR);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace
}  // namespace shunt::test
