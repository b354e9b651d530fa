// Ends of connections: half close, close, reset, and what happens to data on its way.
#include <gtest/gtest.h>

#include <atomic>

#include "net.h"

namespace shunt::test {
namespace {

std::atomic<int> g_signals{0};
void count_signal(int) { g_signals.fetch_add(1); }

int so_error(int fd) {
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  return error;
}

void set_linger_zero(int fd) {
  const linger option{1, 0};
  ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof option), 0);
}

void expect_error(ssize_t result, int error) {
  const int seen = errno;
  EXPECT_EQ(result, -1);
  EXPECT_EQ(seen, error) << strerror(seen);
}

TEST(Close, EndOfStreamAfterData) {
  Pair p = connected_pair();
  send_all(p.client, "all of it");
  p.client.reset();
  EXPECT_EQ(recv_to_eof(p.server), "all of it");
  expect_eof(p.server);
  expect_eof(p.server);
}

TEST(Close, WakesABlockedReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();
  });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
  later.join();
}

TEST(Close, LargeDataIsDeliveredAfterClose) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  p.client.reset();
  drain(p.server, taken);
  expect_eof(p.server);
}

TEST(Close, WithUnreadDataResets) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLRDHUP | POLLOUT),
            POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP);
  char byte;
  expect_error(recv(p.client, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Close, ResetShowsInSoErrorOnce) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  EXPECT_EQ(so_error(p.client), ECONNRESET);
  EXPECT_EQ(so_error(p.client), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
}

TEST(Close, ResetShowsInSend) {
  Pair p = connected_pair();
  send_all(p.client, "never read");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Close, LingerZeroResets) {
  Pair p = connected_pair();
  set_linger_zero(p.client);
  p.client.reset();
  char byte;
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  expect_error(recv(p.server, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
}

TEST(Close, LingerZeroAfterData) {
  Pair p = connected_pair();
  send_all(p.client, "before");
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  set_linger_zero(p.client);
  p.client.reset();
  ASSERT_NE(wait_for(p.server, POLLERR), 0);
  char buffer[16] = {};
  const ssize_t n = recv(p.server, buffer, sizeof buffer, 0);
  EXPECT_EQ(n, 6);
  EXPECT_STREQ(buffer, "before");
  expect_error(recv(p.server, buffer, 1, 0), ECONNRESET);
}

TEST(Close, ResetWakesABlockedReader) {
  Pair p = connected_pair();
  set_linger_zero(p.client);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();
  });
  char byte;
  expect_error(recv(p.server, &byte, 1, 0), ECONNRESET);
  later.join();
}

TEST(Close, ResetWakesABlockedWriter) {
  Pair p = connected_pair();
  set_nonblocking(p.server);
  fill(p.server);
  set_nonblocking(p.server, false);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    p.client.reset();  // with unread data
  });
  expect_error(send(p.server, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  later.join();
}

// The peer has closed: the first write is taken, a later one fails. How soon differs even on TCP.
TEST(Close, WritingToTheClosedPeerFails) {
  SignalHandler handler(SIGPIPE, count_signal, 0);
  g_signals = 0;
  Pair p = connected_pair();
  p.server.reset();
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  Stopwatch watch;
  ssize_t n = 0;
  while (n >= 0 && watch.ms() < kWaitMs) {
    n = send(p.client, "x", 1, 0);
    std::this_thread::yield();
  }
  expect_error(n, EPIPE);
  EXPECT_EQ(g_signals, 1);
}

TEST(Shutdown, WriteHalf) {
  Pair p = connected_pair();
  send_all(p.client, "question");
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0);
  EXPECT_EQ(recv_to_eof(p.server), "question");
  expect_echo(p.server, p.client, pattern(1 << 15));
  const std::string data = pattern(1 << 20);
  std::thread sender([&] { send_all(p.server, data); });
  EXPECT_TRUE(recv_exact(p.client, data.size()) == data);
  sender.join();
  p.server.reset();
  expect_eof(p.client);
}

TEST(Shutdown, WriteHalfThenSend) {
  SignalHandler handler(SIGPIPE, count_signal, 0);
  g_signals = 0;
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(g_signals, 0);
  expect_error(send(p.client, "x", 1, 0), EPIPE);
  EXPECT_EQ(g_signals, 1);
  expect_error(write(p.client, "x", 1), EPIPE);
  EXPECT_EQ(g_signals, 2);
  iovec v{const_cast<char*>("x"), 1};
  expect_error(writev(p.client, &v, 1), EPIPE);
  EXPECT_EQ(g_signals, 3);
  ASSERT_EQ(shutdown(p.client, SHUT_WR), 0) << "a second time is fine";
}

TEST(Shutdown, ReadHalf) {
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_RD), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLRDHUP | POLLOUT), POLLIN | POLLRDHUP | POLLOUT);
  expect_echo(p.client, p.server, "the other way works");
  EXPECT_EQ(send(p.server, "x", 1, MSG_NOSIGNAL), 1) << "the peer does not notice";
}

TEST(Shutdown, ReadHalfKeepsWhatIsQueued) {
  Pair p = connected_pair();
  send_all(p.server, "queued");
  ASSERT_NE(wait_for(p.client, POLLIN), 0);
  ASSERT_EQ(shutdown(p.client, SHUT_RD), 0);
  char buffer[16] = {};
  EXPECT_EQ(recv(p.client, buffer, sizeof buffer, 0), 6);
  EXPECT_EQ(recv(p.client, buffer, sizeof buffer, 0), 0);
}

TEST(Shutdown, ReadHalfWakesAReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_RD);
  });
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  later.join();
}

TEST(Shutdown, BothHalves) {
  Pair p = connected_pair();
  ASSERT_EQ(shutdown(p.client, SHUT_RDWR), 0);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  expect_eof(p.server);
}

TEST(Shutdown, BothHalvesWakeAReader) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_RDWR);
  });
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  later.join();
  expect_eof(p.server);
}

TEST(Shutdown, WakesAWriter) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    shutdown(p.client, SHUT_WR);
  });
  expect_error(send(p.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  later.join();
}

TEST(Shutdown, Errors) {
  Fd fresh = tcp_socket();
  expect_error(shutdown(fresh, SHUT_WR), ENOTCONN);
  Pair p = connected_pair();
  expect_error(shutdown(p.client, 7), EINVAL);
  expect_echo(p.client, p.server, "fine");
}

TEST(Shutdown, BothSidesHalfClosed) {
  Pair p = connected_pair();
  shutdown(p.client, SHUT_WR);
  shutdown(p.server, SHUT_WR);
  ASSERT_NE(wait_for(p.client, POLLHUP), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN | POLLOUT | POLLRDHUP),
            POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  char byte;
  EXPECT_EQ(recv(p.client, &byte, 1, 0), 0);
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 0);
}

// A process that ends: its data arrives, then end of stream.
TEST(Death, ExitDeliversEverything) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 6);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    return 0;
  });
  Fd server = accept_from(listener);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(recv_to_eof(server) == data);
}

TEST(Death, KillDeliversEverything) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 7);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  EXPECT_TRUE(recv_exact(server, data.size()) == data);
  child.kill();
  expect_eof(server);
}

TEST(Death, KilledBeforeTheReaderStarts) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 8);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    (void)!write(ready[1], "x", 1);
    pause();
    return 0;
  });
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  child.kill();
  Fd server = accept_from(listener);
  EXPECT_TRUE(recv_to_eof(server) == data);
  close(ready[0]);
  close(ready[1]);
}

TEST(Death, KilledWithUnreadDataResets) {
  Fd listener = listen_on();
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    wait_for(fd, POLLIN);
    send_all(fd, "r");
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  send_all(server, "unread");
  EXPECT_EQ(recv_exact(server, 1), "r");
  child.kill();
  char byte;
  ASSERT_NE(wait_for(server, POLLIN), 0);
  expect_error(recv(server, &byte, 1, 0), ECONNRESET);
}

TEST(Death, KilledReaderWakesABlockedWriter) {
  Fd listener = listen_on();
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    child.kill();
  });
  const std::string data = pattern(64 << 20);
  ssize_t n = 0;
  while (n >= 0) n = send(server, data.data(), data.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(errno == ECONNRESET || errno == EPIPE) << strerror(errno);
  later.join();
}

}  // namespace
}  // namespace shunt::test
