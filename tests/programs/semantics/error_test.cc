// The errors for what is not (or no longer) a connection; errno on success.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

// Every call on `fd`, with the error each must give.
void expect_everywhere(int fd, int error) {
  char byte = 0;
  iovec v{&byte, 1};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  mmsghdr mm{};
  mm.msg_hdr = m;
  Address a("127.0.0.1", 9);
  int value = 0;
  socklen_t length = sizeof value;
  expect_error(recv(fd, &byte, 1, 0), error, "recv");
  expect_error(recvfrom(fd, &byte, 1, 0, nullptr, nullptr), error, "recvfrom");
  expect_error(recvmsg(fd, &m, 0), error, "recvmsg");
  expect_error(recvmmsg(fd, &mm, 1, 0, nullptr), error, "recvmmsg");
  expect_error(send(fd, &byte, 1, 0), error, "send");
  expect_error(sendto(fd, &byte, 1, 0, nullptr, 0), error, "sendto");
  expect_error(sendmsg(fd, &m, 0), error, "sendmsg");
  expect_error(sendmmsg(fd, &mm, 1, 0), error, "sendmmsg");
  expect_error(connect(fd, a.get(), a.length), error, "connect");
  expect_error(bind(fd, a.get(), a.length), error, "bind");
  expect_error(listen(fd, 1), error, "listen");
  expect_error(accept(fd, nullptr, nullptr), error, "accept");
  expect_error(accept4(fd, nullptr, nullptr, 0), error, "accept4");
  expect_error(shutdown(fd, SHUT_RDWR), error, "shutdown");
  expect_error(getsockname(fd, a.get(), &a.length), error, "getsockname");
  expect_error(getpeername(fd, a.get(), &a.length), error, "getpeername");
  expect_error(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length), error, "getsockopt");
  expect_error(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, length), error, "setsockopt");
}

TEST(Errors, ClosedDescriptor) {
  Pair p = connected_pair();
  const int number = p.client;
  p.client.reset();
  expect_everywhere(number, EBADF);
  char byte;
  iovec v{&byte, 1};
  expect_error(read(number, &byte, 1), EBADF);
  expect_error(readv(number, &v, 1), EBADF);
  expect_error(write(number, &byte, 1), EBADF);
  expect_error(writev(number, &v, 1), EBADF);
  expect_error(dup(number), EBADF);
  expect_error(close(number), EBADF);
  expect_error(fcntl(number, F_GETFL), EBADF);
  expect_error(ioctl(number, FIONREAD, &byte), EBADF);
}

TEST(Errors, NegativeDescriptor) { expect_everywhere(-1, EBADF); }

TEST(Errors, NotASocket) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  expect_everywhere(fds[0], ENOTSOCK);
  close(fds[0]);
  close(fds[1]);
}

TEST(Errors, NotConnected) {
  Fd fd = tcp_socket();
  char byte = 0;
  Address a;
  expect_error(recv(fd, &byte, 1, 0), ENOTCONN);
  expect_error(read(fd, &byte, 1), ENOTCONN);
  expect_error(send(fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
  expect_error(getpeername(fd, a.get(), &a.length), ENOTCONN);
  EXPECT_EQ(local_address(fd).text(), "0.0.0.0:0");
  Fd listener = listen_on();
  expect_error(recv(listener, &byte, 1, 0), ENOTCONN);
  expect_error(send(listener, &byte, 1, MSG_NOSIGNAL), EPIPE);
  expect_error(getpeername(listener, a.get(), &a.length), ENOTCONN);
}

TEST(Errors, BadPointers) {
  Pair p = connected_pair();
  char* volatile nowhere = reinterpret_cast<char*>(8);  // volatile: no warnings at compile time
  char* bad = nowhere;
  send_all(p.client, "data");
  wait_for(p.server, POLLIN);
  expect_error(recv(p.server, bad, 4, 0), EFAULT);
  expect_error(read(p.server, bad, 4), EFAULT);
  EXPECT_EQ(recv_exact(p.server, 4), "data");
  expect_error(send(p.client, bad, 4, 0), EFAULT);
  expect_error(write(p.client, bad, 4), EFAULT);
  socklen_t length = sizeof(sockaddr_in);
  expect_error(getpeername(p.client, reinterpret_cast<sockaddr*>(bad), &length), EFAULT);
  expect_error(connect(tcp_socket(), reinterpret_cast<sockaddr*>(bad), 16), EFAULT);
  expect_echo(p.client, p.server, "unharmed");
}

TEST(Errors, SuccessLeavesErrnoAlone) {
  errno = 1234;
  Fd listener = listen_on();
  EXPECT_EQ(errno, 1234);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_EQ(errno, 1234);
  Fd server = accept_from(listener);
  EXPECT_EQ(errno, 1234);
  int value = 1;
  EXPECT_EQ(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), 0);
  EXPECT_EQ(errno, 1234);
  expect_echo(client, server, pattern(100'000));
  EXPECT_EQ(errno, 1234);
  Fd copy(dup(server));
  EXPECT_EQ(errno, 1234);
  EXPECT_EQ(shutdown(client, SHUT_WR), 0);
  EXPECT_EQ(errno, 1234);
  expect_eof(copy);
  EXPECT_EQ(errno, 1234);
  copy.reset();
  server.reset();
  client.reset();
  EXPECT_EQ(errno, 1234);
}

}  // namespace
}  // namespace shunt::test
