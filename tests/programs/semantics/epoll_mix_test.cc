// epoll with listeners, connecting sockets, pipes, other sets, several threads, signals.
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "epoll_set.h"

namespace shunt::test {
namespace {

void do_nothing(int) {}

TEST(EpollMix, Listener) {
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

TEST(EpollMix, ListenerEdgeTriggered) {
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

TEST(EpollMix, ListenerExclusive) {
  // As servers with several processes on one listener register it.
  Fd listener = listen_on();
  set_nonblocking(listener);
  Epoll e;
  e.add(listener, EPOLLIN | EPOLLEXCLUSIVE);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_EQ(e.wait(), EPOLLIN);
  Fd server = accept_from(listener);
  expect_echo(client, server, "exclusive");
  epoll_event change{};
  change.events = EPOLLIN | EPOLLEXCLUSIVE;
  EXPECT_EQ(epoll_ctl(e.fd(), EPOLL_CTL_MOD, listener, &change), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(EpollMix, ConnectionExclusive) {
  Pair p = connected_pair();
  Epoll one;
  Epoll two;
  one.add(p.server, EPOLLIN | EPOLLEXCLUSIVE);
  two.add(p.server, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
  EXPECT_EQ(one.wait(0), 0u);
  send_all(p.client, "x");
  EXPECT_EQ(one.wait(), EPOLLIN);
  EXPECT_EQ(two.wait(), EPOLLIN);
  EXPECT_EQ(one.control(EPOLL_CTL_MOD, p.server, EPOLLIN), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(one.control(EPOLL_CTL_DEL, p.server, 0), 0);
  for (const std::uint32_t wrong : {EPOLLRDHUP, EPOLLONESHOT, EPOLLPRI}) {
    EXPECT_EQ(one.control(EPOLL_CTL_ADD, p.server, EPOLLIN | EPOLLEXCLUSIVE | wrong), -1);
    EXPECT_EQ(errno, EINVAL);
  }
  one.add(p.server, EPOLLIN);
  EXPECT_EQ(one.wait(), EPOLLIN);
}

TEST(EpollMix, ConnectionExclusiveBeforeConnect) {
  Fd listener = listen_on();
  Fd client = tcp_socket();
  Epoll e;
  e.add(client, EPOLLIN | EPOLLEXCLUSIVE);
  const Address address("127.0.0.1", port_of(listener));
  ASSERT_EQ(connect(client, address.get(), address.length), 0);
  Fd server = accept_from(listener);
  char byte;
  while (e.wait(0) != 0 && recv(client, &byte, 1, MSG_DONTWAIT) >= 0) {  // hung up, until connected
  }
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(kQuietMs));  // the wait has begun
    send_all(server, "x");
  });
  EXPECT_EQ(e.wait(), EPOLLIN);
  later.join();
}

TEST(EpollMix, RegisteredBeforeConnect) {
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

TEST(EpollMix, RegisteredWhileConnecting) {
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

TEST(EpollMix, MixOfKinds) {
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

TEST(EpollMix, FewSlotsManyReady) {
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

TEST(EpollMix, Nested) {
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

TEST(EpollMix, PolledAsADescriptor) {
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

TEST(EpollMix, AddFromAnotherThreadWakes) {
  Pair p = connected_pair();
  send_all(p.client, "x");
  Epoll e;
  Later later([&] { e.add(p.server, EPOLLIN); });
  EXPECT_EQ(e.wait(), EPOLLIN);
}

TEST(EpollMix, TwoWaitersOneEdge) {
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

TEST(EpollMix, Timeouts) {
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

TEST(EpollMix, SignalsInterrupt) {
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

TEST(EpollMix, PwaitMask) {
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

TEST(EpollMix, TwoSets) {
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

TEST(EpollMix, DuplicatesAreSeparateEntries) {
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

}  // namespace
}  // namespace shunt::test
