// Rules of Linux TCP at which a provider that keeps data in memory and wakes through a descriptor
// of its own can fail: who has already taken the wake-up, who is still asleep, who has died unseen.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <memory>
#include <stop_token>

#include "epoll_set.h"
#include "net.h"

namespace shunt::test {
namespace {

// Has the epoll set look at the connection once while nothing is there.
void expect_quiet(Epoll& epoll) { EXPECT_EQ(epoll.wait(kQuietMs), 0U); }

// Calls `attempt` until it returns true; no call in between may wait on the connection.
bool soon(const std::function<bool()>& attempt) {
  const Stopwatch watch;
  while (!attempt()) {
    if (watch.ms() > kWaitMs) return false;
    std::this_thread::yield();
  }
  return true;
}

// Takes the only copy of the pair's server end into a child that leaves it idle.
std::unique_ptr<Child> give_server_away(Pair& pair) {
  auto child = std::make_unique<Child>([&] {
    pair.client.reset();
    pause();
    return 0;
  });
  pair.server.reset();
  return child;
}

struct Connecting {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
};

// How often the calling thread has gone to sleep.
long sleeps() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

TEST(Readiness, PollAndPartialReadLeaveEpollReadable) {
  Pair p = connected_pair();
  Epoll epoll;
  epoll.add(p.client, EPOLLIN);
  expect_quiet(epoll);
  send_all(p.server, "hello");
  ASSERT_TRUE(soon([&] { return wait_for(p.client, POLLIN, 0) == POLLIN; }));
  EXPECT_EQ(recv_exact(p.client, 1), "h");
  EXPECT_EQ(epoll.wait(), static_cast<std::uint32_t>(EPOLLIN));
}

TEST(Readiness, SendBeforeTheFirstReceiveKeepsTheGreetingReadable) {
  Connecting c;
  Epoll epoll;
  epoll.add(c.client, EPOLLIN);
  expect_quiet(epoll);
  Fd server = accept_from(c.listener);
  send_all(server, "hello");
  send_all(c.client, "x");
  EXPECT_EQ(epoll.wait(), static_cast<std::uint32_t>(EPOLLIN));
}

TEST(Readiness, NonBlockingReadOfTheGreetingKeepsTheRestReadable) {
  Connecting c;
  Epoll epoll;
  epoll.add(c.client, EPOLLIN);
  expect_quiet(epoll);
  Fd server = accept_from(c.listener);
  send_all(server, "hello");
  set_nonblocking(c.client);
  char byte;
  const ssize_t n = read(c.client, &byte, 1);
  EXPECT_TRUE(n == 1 || errno == EAGAIN) << strerror(errno);
  EXPECT_EQ(epoll.wait(), static_cast<std::uint32_t>(EPOLLIN));
}

TEST(Readiness, OwnFullShutdownIsAHangUp) {
  Pair p = connected_pair();
  Epoll epoll;
  epoll.add(p.client, EPOLLIN | EPOLLRDHUP);
  expect_quiet(epoll);
  ASSERT_EQ(shutdown(p.client, SHUT_RDWR), 0);
  EXPECT_EQ(epoll.wait(), static_cast<std::uint32_t>(EPOLLIN | EPOLLRDHUP | EPOLLHUP));
}

TEST(Readiness, OwnReadShutdownIsAnEndOfStream) {
  Pair p = connected_pair();
  Epoll epoll;
  epoll.add(p.client, EPOLLIN | EPOLLRDHUP);
  expect_quiet(epoll);
  ASSERT_EQ(shutdown(p.client, SHUT_RD), 0);
  EXPECT_EQ(epoll.wait(), static_cast<std::uint32_t>(EPOLLIN | EPOLLRDHUP));
}

TEST(Readiness, OwnShutdownWakesAnEpollWaiter) {
  Pair p = connected_pair();
  Epoll epoll;
  epoll.add(p.client, EPOLLIN | EPOLLRDHUP);
  Later later([&] { shutdown(p.client, SHUT_RDWR); });
  EXPECT_NE(epoll.wait(), 0U);
}

TEST(PeerKilled, ReportedForADuplicateWhoseRegisteredNumberIsClosed) {
  Pair p = connected_pair();
  const auto child = give_server_away(p);
  Epoll epoll;
  epoll.add(p.client, EPOLLIN | EPOLLRDHUP);
  expect_quiet(epoll);
  Fd copy(dup(p.client));
  ASSERT_GE(copy, 0);
  p.client.reset();
  child->kill();
  EXPECT_NE(epoll.wait() & EPOLLIN, 0U);
}

TEST(PeerKilled, SeenByNonBlockingReadsAlone) {
  Pair p = connected_pair();
  const auto child = give_server_away(p);
  set_nonblocking(p.client);
  char byte;
  expect_error(read(p.client, &byte, 1), EAGAIN);
  child->kill();
  ssize_t n = -1;
  EXPECT_TRUE(soon([&] {
    n = read(p.client, &byte, 1);
    return n >= 0 || errno != EAGAIN;
  }));
  EXPECT_EQ(n, 0) << "nothing was unread, so an orderly end";
}

TEST(PeerKilled, SeenBySendsAlone) {
  Pair p = connected_pair();
  const auto child = give_server_away(p);
  send_all(p.client, "unread");
  child->kill();
  int error = 0;
  // Few bytes, so that it is not a full buffer that ends it.
  for (int sent = 0; error == 0 && sent < 500; ++sent) {
    error = send(p.client, "x", 1, MSG_NOSIGNAL) < 0 ? errno : 0;
    if (error == 0) poll(nullptr, 0, 1);
  }
  EXPECT_TRUE(error == ECONNRESET || error == EPIPE) << strerror(error);
}

TEST(Shutdown, ReaderSleepsOnAfterTheOwnWriteHalfIsShut) {
  Pair p = connected_pair();
  set_timeout(p.client, SO_RCVTIMEO, 300);
  char byte;
  {
    Later later([&] { shutdown(p.client, SHUT_WR); });
    const long before = sleeps();
    expect_error(recv(p.client, &byte, 1, 0), EAGAIN);
    EXPECT_LT(sleeps() - before, 50) << "the reader woke again and again";
  }
  send_all(p.server, "abc");
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  EXPECT_EQ(recv_exact(p.client, 3), "abc");
}

TEST(Listen, ShutdownMeansRefused) {
  Fd listener = listen_on();
  const Address address = local_address(listener);
  ASSERT_EQ(shutdown(listener, SHUT_RDWR), 0);
  Fd client = tcp_socket();
  expect_error(connect(client, address.get(), address.length), ECONNREFUSED);
}

// One thread goes on using a number while another closes the connection behind it and connects
// anew: each call meets one connection, the other or EBADF, and neither is harmed.
TEST(Threads, NumberIsReusedUnderACaller) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
  Fd server = accept_from(listener);
  std::atomic<int> number{client};
  {
    std::jthread caller([&](const std::stop_token& stop) {
      char buffer[8];
      int pending;
      while (!stop.stop_requested()) {
        recv(number, buffer, sizeof buffer, MSG_DONTWAIT);
        send(number, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        ioctl(number, FIONREAD, &pending);
      }
    });
    for (int i = 0; i < 3000; ++i) {
      server.reset();
      client.reset();
      client = connect_to("127.0.0.1", port_of(listener));
      server = accept_from(listener);
      number = client;
    }
  }
  server.reset();
  client.reset();
  Pair fresh{connect_to("127.0.0.1", port_of(listener)), accept_from(listener)};
  expect_echo(fresh.client, fresh.server, "still in order");
}

}  // namespace
}  // namespace shunt::test
