// Socket options and ioctls.
#include <gtest/gtest.h>
#include <linux/sockios.h>

#include "net.h"

namespace shunt::test {
namespace {

int get_int(int fd, int level, int option) {
  int value = -77;
  socklen_t length = sizeof value;
  EXPECT_EQ(getsockopt(fd, level, option, &value, &length), 0) << strerror(errno);
  EXPECT_EQ(length, sizeof value);
  return value;
}

void set_int(int fd, int level, int option, int value) {
  EXPECT_EQ(setsockopt(fd, level, option, &value, sizeof value), 0) << strerror(errno);
}

TEST(Options, WhatTheSocketIs) {
  Pair p = connected_pair();
  Pair six = connected_pair("::1");
  Fd listener = listen_on();
  Fd fresh = tcp_socket();
  for (int fd : {int{p.client}, int{p.server}, int{listener}, int{fresh}}) {
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_ERROR), 0);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_ACCEPTCONN), fd == listener);
  }
  EXPECT_EQ(get_int(six.client, SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(get_int(six.server, SOL_SOCKET, SO_DOMAIN), AF_INET6);
}

// Set before and after connecting, on the client and on the accepted side: read back as on TCP.
TEST(Options, FlagsReadBack) {
  Fd listener = listen_on();
  Fd client = tcp_socket();
  set_int(client, IPPROTO_TCP, TCP_NODELAY, 1);
  set_int(client, SOL_SOCKET, SO_KEEPALIVE, 1);
  const Address address = local_address(listener);
  ASSERT_EQ(connect(client, address.get(), address.length), 0);
  EXPECT_EQ(get_int(client, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(get_int(client, SOL_SOCKET, SO_KEEPALIVE), 1);
  Fd server = accept_from(listener);
  EXPECT_EQ(get_int(server, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(get_int(server, SOL_SOCKET, SO_KEEPALIVE), 0);
  for (int fd : {int{client}, int{server}}) {
    for (int value : {1, 0}) {
      set_int(fd, IPPROTO_TCP, TCP_NODELAY, value);
      EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_NODELAY), value);
      set_int(fd, SOL_SOCKET, SO_KEEPALIVE, value);
      EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), value);
      set_int(fd, SOL_SOCKET, SO_REUSEADDR, value);
      EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_REUSEADDR), value);
      set_int(fd, IPPROTO_TCP, TCP_CORK, value);
      EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_CORK), value);
      set_int(fd, IPPROTO_TCP, TCP_QUICKACK, value);
    }
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 33);
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 11);
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 4000);
    set_int(fd, IPPROTO_IP, IP_TOS, 0x10);
    EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), 33);
    EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL), 11);
    EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 4000);
    EXPECT_EQ(get_int(fd, IPPROTO_IP, IP_TOS), 0x10);
  }
  expect_echo(client, server, "x");
}

TEST(Options, BufferSizes) {
  Pair p = connected_pair();
  for (int fd : {int{p.client}, int{p.server}}) {
    EXPECT_GT(get_int(fd, SOL_SOCKET, SO_SNDBUF), 4096);
    EXPECT_GT(get_int(fd, SOL_SOCKET, SO_RCVBUF), 4096);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 50'000);
    set_int(fd, SOL_SOCKET, SO_RCVBUF, 60'000);
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_SNDBUF), 100'000) << "Linux doubles it";
    EXPECT_EQ(get_int(fd, SOL_SOCKET, SO_RCVBUF), 120'000);
  }
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  EXPECT_LT(taken, 8U << 20) << "buffers are bounded";
  drain(p.server, taken);
}

TEST(Options, AcceptedSocketInherits) {
  Fd listener = listen_on();
  set_int(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_int(listener, IPPROTO_TCP, TCP_NODELAY, 1);
  set_int(listener, SOL_SOCKET, SO_RCVBUF, 60'000);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  Fd server = accept_from(listener);
  EXPECT_EQ(get_int(server, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(get_int(server, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(get_int(server, SOL_SOCKET, SO_RCVBUF), 120'000);
}

TEST(Options, TcpInfo) {
  Pair p = connected_pair();
  for (int fd : {int{p.client}, int{p.server}}) {
    tcp_info info{};
    socklen_t length = sizeof info;
    ASSERT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
    EXPECT_GT(length, 8U);
    EXPECT_GT(get_int(fd, IPPROTO_TCP, TCP_MAXSEG), 500);
  }
  tcp_info info{};
  socklen_t length = sizeof info;
  Fd listener = listen_on();
  ASSERT_EQ(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_LISTEN);
}

TEST(Options, Errors) {
  Pair p = connected_pair();
  int value = 1;
  EXPECT_EQ(setsockopt(p.client, SOL_SOCKET, 9999, &value, sizeof value), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
  EXPECT_EQ(setsockopt(p.client, IPPROTO_TCP, TCP_NODELAY, &value, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  socklen_t length = sizeof value;
  EXPECT_EQ(getsockopt(p.client, IPPROTO_TCP, 9999, &value, &length), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
  EXPECT_EQ(setsockopt(p.client, SOL_SOCKET, SO_TYPE, &value, sizeof value), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
  expect_echo(p.client, p.server, "fine");
}

TEST(Options, ReceiveTimeout) {
  Pair p = connected_pair();
  set_timeout(p.server, SO_RCVTIMEO, 60);
  timeval tv{};
  socklen_t length = sizeof tv;
  ASSERT_EQ(getsockopt(p.server, SOL_SOCKET, SO_RCVTIMEO, &tv, &length), 0);
  EXPECT_EQ(tv.tv_sec, 0);
  EXPECT_NEAR(static_cast<double>(tv.tv_usec), 60'000, 4'000);
  Stopwatch watch;
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(watch.ms(), 55);
  EXPECT_LT(watch.ms(), 1000);
  expect_echo(p.client, p.server, "still connected");
}

TEST(Options, SendTimeout) {
  Pair p = connected_pair();
  set_timeout(p.client, SO_SNDTIMEO, 60);
  std::size_t taken = fill(p.client);
  Stopwatch watch;
  ssize_t n = 0;
  const std::string block = pattern(1 << 20);
  while ((n = send(p.client, block.data(), block.size(), 0)) > 0) {
    taken += static_cast<std::size_t>(n);  // a timeout after some bytes returns their number
    watch = Stopwatch();
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(watch.ms(), 55);
  drain(p.server, taken);
}

TEST(Ioctl, BytesToRead) {
  Pair p = connected_pair();
  int n = -1;
  EXPECT_EQ(ioctl(p.server, FIONREAD, &n), 0);
  EXPECT_EQ(n, 0);
  send_all(p.client, std::string(12'345, 'x'));
  ASSERT_NE(wait_for(p.server, POLLIN), 0);
  EXPECT_EQ(ioctl(p.server, FIONREAD, &n), 0);
  EXPECT_EQ(n, 12'345);
  recv_exact(p.server, 345);
  EXPECT_EQ(ioctl(p.server, FIONREAD, &n), 0);
  EXPECT_EQ(n, 12'000);
}

// SIOCOUTQ: what the peer's machine has not yet taken. TCP counts to the peer's receive queue, so
// the bytes go to zero on loopback without anybody reading.
TEST(Ioctl, BytesOnTheirWay) {
  Pair p = connected_pair();
  int n = -1;
  EXPECT_EQ(ioctl(p.client, SIOCOUTQ, &n), 0);
  EXPECT_EQ(n, 0);
  send_all(p.client, "abc");
  recv_exact(p.server, 3);
  Stopwatch watch;
  do {
    EXPECT_EQ(ioctl(p.client, SIOCOUTQ, &n), 0);
  } while (n != 0 && watch.ms() < kWaitMs);
  EXPECT_EQ(n, 0);
  Fd listener = listen_on();
  EXPECT_EQ(ioctl(listener, SIOCOUTQ, &n), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Ioctl, NonBlocking) {
  Pair p = connected_pair();
  int on = 1;
  EXPECT_EQ(ioctl(p.server, FIONBIO, &on), 0);
  EXPECT_NE(fcntl(p.server, F_GETFL) & O_NONBLOCK, 0);
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  on = 0;
  EXPECT_EQ(ioctl(p.server, FIONBIO, &on), 0);
  EXPECT_EQ(fcntl(p.server, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(ioctl(p.server, FIOCLEX), 0);
  EXPECT_EQ(fcntl(p.server, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(ioctl(p.server, FIONCLEX), 0);
  EXPECT_EQ(fcntl(p.server, F_GETFD), 0);
}

TEST(Other, DatagramSocketsAreLeftAlone) {
  Fd a(socket(AF_INET, SOCK_DGRAM, 0));
  Fd b(socket(AF_INET, SOCK_DGRAM, 0));
  const Address any("127.0.0.1", 0);
  ASSERT_EQ(bind(a, any.get(), any.length), 0);
  ASSERT_EQ(bind(b, any.get(), any.length), 0);
  const Address to = local_address(a);
  ASSERT_EQ(sendto(b, "datagram", 8, 0, to.get(), to.length), 8);
  char buffer[16] = {};
  Address from;
  EXPECT_EQ(recvfrom(a, buffer, sizeof buffer, 0, from.get(), &from.length), 8);
  EXPECT_EQ(from.text(), local_address(b).text());
}

TEST(Other, UnixSocketsAreLeftAlone) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  EXPECT_EQ(get_int(fds[0], SOL_SOCKET, SO_DOMAIN), AF_UNIX);
  expect_echo(fds[0], fds[1], "unix");
  close(fds[0]);
  expect_eof(fds[1]);
  close(fds[1]);
}

}  // namespace
}  // namespace shunt::test
