// poll, ppoll, select, pselect.
#include <gtest/gtest.h>
#include <sys/select.h>

#include "net.h"

namespace shunt::test {
namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;

void do_nothing(int) {}

TEST(Poll, StatesOfAConnection) {
  Pair p = connected_pair();
  EXPECT_EQ(wait_for(p.server, kAll, 0), POLLOUT);
  EXPECT_EQ(wait_for(p.server, POLLIN, 0), 0);
  send_all(p.client, "x");
  ASSERT_EQ(wait_for(p.server, POLLIN), POLLIN);
  EXPECT_EQ(wait_for(p.server, kAll, 0), POLLIN | POLLOUT);
  EXPECT_EQ(wait_for(p.server, POLLOUT, 0), POLLOUT) << "only what was asked for";
  recv_exact(p.server, 1);
  EXPECT_EQ(wait_for(p.server, kAll, 0), POLLOUT);
  shutdown(p.client, SHUT_WR);
  ASSERT_EQ(wait_for(p.server, POLLRDHUP), POLLRDHUP);
  EXPECT_EQ(wait_for(p.server, kAll, 0), POLLIN | POLLOUT | POLLRDHUP);
  shutdown(p.server, SHUT_WR);
  EXPECT_EQ(wait_for(p.server, kAll), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  EXPECT_EQ(wait_for(p.server, 0), POLLHUP);
}

TEST(Poll, FreshSocket) {
  Fd fd = tcp_socket();
  EXPECT_EQ(wait_for(fd, kAll, 0), POLLOUT | POLLHUP);
}

TEST(Poll, Listener) {
  Fd listener = listen_on();
  EXPECT_EQ(wait_for(listener, kAll, 0), 0);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_EQ(wait_for(listener, kAll), POLLIN);
  EXPECT_EQ(wait_for(listener, kAll, 0), POLLIN);
  Fd server = accept_from(listener);
  EXPECT_EQ(wait_for(listener, kAll, 0), 0);
}

TEST(Poll, ListenerWakes) {
  Fd listener = listen_on();
  Fd client;
  Later later([&] { client = connect_to("127.0.0.1", port_of(listener)); });
  EXPECT_EQ(wait_for(listener, POLLIN), POLLIN);
}

TEST(Poll, DataWakes) {
  Pair p = connected_pair();
  Later later([&] { send_all(p.client, "x"); });
  EXPECT_EQ(wait_for(p.server, POLLIN), POLLIN);
}

TEST(Poll, EndOfStreamWakes) {
  Pair p = connected_pair();
  Later later([&] { p.client.reset(); });
  EXPECT_EQ(wait_for(p.server, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
}

TEST(Poll, RoomWakes) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  EXPECT_EQ(wait_for(p.client, POLLOUT, 0), 0);
  Later later([&] { drain(p.server, taken); });
  EXPECT_EQ(wait_for(p.client, POLLOUT), POLLOUT);
}

TEST(Poll, MixOfKinds) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Pair p = connected_pair();
  Pair q = connected_pair();
  Fd listener = listen_on();
  pollfd set[] = {{pipe_fds[0], POLLIN, 0}, {p.server, POLLIN, 0}, {-1, POLLIN, 77},
                  {q.server, POLLIN, 0},    {listener, POLLIN, 0}, {p.server, POLLOUT, 0}};
  EXPECT_EQ(poll(set, 5, 10), 0);
  EXPECT_EQ(set[2].revents, 0);
  {
    Later later([&] { (void)!write(pipe_fds[1], "x", 1); });
    EXPECT_EQ(poll(set, 5, kWaitMs), 1);
    EXPECT_EQ(set[0].revents, POLLIN);
  }
  {
    Later later([&] { send_all(q.client, "x"); });
    set[0].fd = -1;
    EXPECT_EQ(poll(set, 5, kWaitMs), 1);
    EXPECT_EQ(set[3].revents, POLLIN);
    EXPECT_EQ(set[1].revents, 0);
  }
  set[0].fd = pipe_fds[0];
  EXPECT_EQ(poll(set, 6, kWaitMs), 3);
  EXPECT_EQ(set[0].revents, POLLIN);
  EXPECT_EQ(set[3].revents, POLLIN);
  EXPECT_EQ(set[5].revents, POLLOUT) << "the same descriptor twice";
  EXPECT_EQ(set[1].revents, 0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(Poll, ClosedDescriptor) {
  Pair p = connected_pair();
  const int number = p.server;
  p.server.reset();
  EXPECT_EQ(wait_for(number, POLLIN, 100), POLLNVAL);
}

TEST(Poll, Timeouts) {
  Pair p = connected_pair();
  Stopwatch watch;
  EXPECT_EQ(wait_for(p.server, POLLIN, 0), 0);
  EXPECT_LT(watch.ms(), 50);
  EXPECT_EQ(wait_for(p.server, POLLIN, 60), 0);
  EXPECT_GE(watch.ms(), 59);
  EXPECT_LT(watch.ms(), 1000);
  EXPECT_EQ(poll(nullptr, 0, 5), 0);
}

TEST(Poll, SignalsInterrupt) {
  SignalHandler handler(SIGUSR1, do_nothing, SA_RESTART);  // poll never restarts
  Pair p = connected_pair();
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  pollfd set{p.server, POLLIN, 0};
  EXPECT_EQ(poll(&set, 1, kWaitMs), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Poll, PpollMask) {
  SignalHandler handler(SIGUSR1, do_nothing, 0);
  sigset_t block;
  sigset_t old;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &block, &old);
  Pair p = connected_pair();
  pthread_kill(pthread_self(), SIGUSR1);
  pollfd set{p.server, POLLIN, 0};
  timespec brief{0, 20'000'000};
  EXPECT_EQ(ppoll(&set, 1, &brief, nullptr), 0) << "blocked: no interruption";
  EXPECT_EQ(ppoll(&set, 1, nullptr, &old), -1);
  EXPECT_EQ(errno, EINTR);
  send_all(p.client, "x");
  EXPECT_EQ(ppoll(&set, 1, nullptr, &old), 1);
  EXPECT_EQ(set.revents, POLLIN);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

TEST(Poll, ManyConnections) {
  Fd listener = listen_on();
  std::vector<Pair> pairs;
  std::vector<pollfd> set;
  for (int i = 0; i < 100; ++i) {
    Fd client = connect_to("127.0.0.1", port_of(listener));
    pairs.push_back({std::move(client), accept_from(listener)});
    set.push_back({pairs.back().server, POLLIN, 0});
  }
  EXPECT_EQ(poll(set.data(), set.size(), 0), 0);
  for (std::size_t i : {3U, 50U, 99U}) send_all(pairs[i].client, "x");
  for (std::size_t i : {3U, 50U, 99U}) wait_for(pairs[i].server, POLLIN);
  EXPECT_EQ(poll(set.data(), set.size(), kWaitMs), 3);
  for (std::size_t i = 0; i < set.size(); ++i)
    EXPECT_EQ(set[i].revents, (i == 3 || i == 50 || i == 99) ? POLLIN : 0) << i;
}

struct Sets {
  fd_set read, write, except;
  explicit Sets(int fd) {
    FD_ZERO(&read);
    FD_ZERO(&write);
    FD_ZERO(&except);
    FD_SET(fd, &read);
    FD_SET(fd, &write);
    FD_SET(fd, &except);
  }
};

TEST(Select, StatesOfAConnection) {
  Pair p = connected_pair();
  timeval none{0, 0};
  Sets idle(p.server);
  EXPECT_EQ(select(p.server + 1, &idle.read, &idle.write, &idle.except, &none), 1);
  EXPECT_FALSE(FD_ISSET(p.server, &idle.read));
  EXPECT_TRUE(FD_ISSET(p.server, &idle.write));
  EXPECT_FALSE(FD_ISSET(p.server, &idle.except));
  send_all(p.client, "x");
  wait_for(p.server, POLLIN);
  Sets data(p.server);
  EXPECT_EQ(select(p.server + 1, &data.read, &data.write, &data.except, &none), 2);
  EXPECT_TRUE(FD_ISSET(p.server, &data.read));
  recv_exact(p.server, 1);
  p.client.reset();
  wait_for(p.server, POLLIN);
  Sets end(p.server);
  EXPECT_EQ(select(p.server + 1, &end.read, nullptr, &end.except, &none), 1);
  EXPECT_TRUE(FD_ISSET(p.server, &end.read));
}

TEST(Select, TimeoutIsCountedDown) {
  Pair p = connected_pair();
  Sets s(p.server);
  timeval wait{0, 60'000};
  Stopwatch watch;
  EXPECT_EQ(select(p.server + 1, &s.read, nullptr, nullptr, &wait), 0);
  EXPECT_GE(watch.ms(), 59);
  EXPECT_EQ(wait.tv_sec, 0);
  EXPECT_EQ(wait.tv_usec, 0) << "Linux writes the rest of the time back";
  EXPECT_FALSE(FD_ISSET(p.server, &s.read));
  Sets t(p.server);
  timeval rest{2, 0};
  Later later([&] { send_all(p.client, "x"); });
  EXPECT_EQ(select(p.server + 1, &t.read, nullptr, nullptr, &rest), 1);
  EXPECT_EQ(rest.tv_sec, 1);
}

TEST(Select, PipeAndSocket) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Pair p = connected_pair();
  fd_set read;
  FD_ZERO(&read);
  FD_SET(pipe_fds[0], &read);
  FD_SET(p.server, &read);
  const int top = std::max<int>(pipe_fds[0], p.server) + 1;
  {
    Later later([&] { (void)!write(pipe_fds[1], "x", 1); });
    EXPECT_EQ(select(top, &read, nullptr, nullptr, nullptr), 1);
    EXPECT_TRUE(FD_ISSET(pipe_fds[0], &read));
    EXPECT_FALSE(FD_ISSET(p.server, &read));
  }
  FD_ZERO(&read);
  FD_SET(p.server, &read);
  Later later([&] { send_all(p.client, "x"); });
  EXPECT_EQ(pselect(top, &read, nullptr, nullptr, nullptr, nullptr), 1);
  EXPECT_TRUE(FD_ISSET(p.server, &read));
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(Select, BadDescriptor) {
  Pair p = connected_pair();
  const int number = p.server;
  Sets s(number);
  p.server.reset();
  timeval none{0, 0};
  EXPECT_EQ(select(number + 1, &s.read, nullptr, nullptr, &none), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST(Select, SignalsInterrupt) {
  SignalHandler handler(SIGUSR1, do_nothing, SA_RESTART);
  Pair p = connected_pair();
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  Sets s(p.server);
  EXPECT_EQ(select(p.server + 1, &s.read, nullptr, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINTR);
}

}  // namespace
}  // namespace shunt::test
