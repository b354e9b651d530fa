// Descriptors: dup and friends, fork, close, flags, and the errors for what is not a connection.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "net.h"

namespace shunt::test {
namespace {

void expect_error(ssize_t result, int error, const char* what = "") {
  const int seen = errno;
  EXPECT_EQ(result, -1) << what;
  EXPECT_EQ(seen, error) << what << ": " << strerror(seen);
}

using Duplicate = int (*)(int fd);
struct DuplicateForm {
  const char* name;
  Duplicate call;
  int descriptor_flags;
};
constexpr int kTarget = 77;
constexpr DuplicateForm kForms[] = {
    {"dup", [](int fd) { return dup(fd); }, 0},
    {"dup2", [](int fd) { return dup2(fd, kTarget); }, 0},
    {"dup3", [](int fd) { return dup3(fd, kTarget, 0); }, 0},
    {"dup3_cloexec", [](int fd) { return dup3(fd, kTarget, O_CLOEXEC); }, FD_CLOEXEC},
    {"F_DUPFD", [](int fd) { return fcntl(fd, F_DUPFD, kTarget); }, 0},
    {"F_DUPFD_CLOEXEC", [](int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, kTarget); }, FD_CLOEXEC},
};

class Dup : public ::testing::TestWithParam<DuplicateForm> {};

TEST_P(Dup, CopyKeepsTheConnection) {
  Pair p = connected_pair();
  Fd copy(GetParam().call(p.server));
  ASSERT_GE(copy, 0) << strerror(errno);
  EXPECT_EQ(fcntl(copy, F_GETFD), GetParam().descriptor_flags);
  expect_echo(p.client, copy, "to the copy");
  expect_echo(copy, p.client, "from the copy");
  expect_echo(p.client, p.server, "to the original");
  p.server.reset();
  EXPECT_EQ(wait_for(p.client, POLLIN, 10), 0) << "the connection has ended too early";
  expect_echo(p.client, copy, "original closed");
  expect_echo(copy, p.client, "original closed");
  copy.reset();
  expect_eof(p.client);
}

TEST_P(Dup, ListenerCopyAccepts) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Fd copy(GetParam().call(listener));
  listener.reset();
  Fd client = connect_to("127.0.0.1", port);
  Fd server = accept_from(copy);
  expect_echo(client, server, "x");
}

INSTANTIATE_TEST_SUITE_P(Forms, Dup, ::testing::ValuesIn(kForms),
                         [](const auto& form) { return std::string(form.param.name); });

TEST(Descriptors, Dup2OverAConnection) {
  Pair p = connected_pair();
  Pair q = connected_pair();
  ASSERT_EQ(dup2(q.server, p.server), p.server);
  expect_eof(p.client);
  expect_echo(q.client, p.server, "now the other connection");
  expect_echo(p.server, q.client, "and back");
}

TEST(Descriptors, Dup2OfAPipeOverAConnection) {
  Pair p = connected_pair();
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  ASSERT_EQ(dup2(pipe_fds[0], p.server), p.server);
  expect_eof(p.client);
  (void)!write(pipe_fds[1], "pipe", 4);
  char buffer[8] = {};
  EXPECT_EQ(read(p.server, buffer, sizeof buffer), 4);
  EXPECT_STREQ(buffer, "pipe");
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(Descriptors, Dup2OntoItself) {
  Pair p = connected_pair();
  EXPECT_EQ(dup2(p.server, p.server), p.server);
  expect_error(dup3(p.server, p.server, 0), EINVAL);
  expect_echo(p.client, p.server, "x");
}

TEST(Descriptors, StatusFlagsAreShared) {
  Pair p = connected_pair();
  Fd copy(dup(p.server));
  set_nonblocking(copy);
  char byte;
  expect_error(recv(p.server, &byte, 1, 0), EAGAIN);
  set_nonblocking(p.server, false);
  EXPECT_EQ(fcntl(copy, F_GETFL) & O_NONBLOCK, 0);
}

TEST(Descriptors, FlagsAndKind) {
  Pair p = connected_pair();
  for (int fd : {static_cast<int>(p.client), static_cast<int>(p.server)}) {
    EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    struct stat st {};
    ASSERT_EQ(fstat(fd, &st), 0);
    EXPECT_TRUE(S_ISSOCK(st.st_mode));
    EXPECT_EQ(isatty(fd), 0);
  }
  EXPECT_EQ(fcntl(p.client, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(p.server, F_GETFD), 0);
  EXPECT_EQ(fcntl(p.server, F_SETFD, FD_CLOEXEC), 0);
  EXPECT_EQ(fcntl(p.server, F_GETFD), FD_CLOEXEC);
  expect_error(lseek(p.server, 0, SEEK_CUR), ESPIPE);
  char byte;
  expect_error(pread(p.server, &byte, 1, 0), ESPIPE);
  expect_error(pwrite(p.server, "x", 1, 0), ESPIPE);
}

TEST(Descriptors, SmallNumbersAreTakenInOrder) {
  Fd probe(dup(0));
  const int lowest = probe;
  probe.reset();
  Fd first = tcp_socket();
  EXPECT_EQ(first, lowest);
  Fd second = listen_on();
  Fd third = connect_to("127.0.0.1", port_of(second));
  Fd fourth = accept_from(second);
  EXPECT_LT(fourth, lowest + 8) << "the program's numbers must stay small";
}

TEST(Descriptors, NumberIsReusedCleanly) {
  for (int round = 0; round < 10; ++round) {
    Pair p = connected_pair();
    expect_echo(p.client, p.server, "socket");
    p.client.reset();
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    ASSERT_EQ(write(fds[1], "pipe", 4), 4);
    char buffer[8] = {};
    EXPECT_EQ(read(fds[0], buffer, 8), 4);
    EXPECT_STREQ(buffer, "pipe");
    expect_eof(p.server);
    close(fds[0]);
    close(fds[1]);
  }
}

TEST(Fork, ChildUsesTheConnection) {
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    const std::string question = recv_exact(p.server, 8);
    send_all(p.server, question + "!");
    return question == "question" ? 0 : 1;
  });
  p.server.reset();
  send_all(p.client, "question");
  EXPECT_EQ(recv_exact(p.client, 9), "question!");
  EXPECT_EQ(child.wait(), 0);
  expect_eof(p.client);
}

TEST(Fork, ChildsCloseKeepsTheParentsConnection) {
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    p.server.reset();
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN, 10), 0);
  expect_echo(p.client, p.server, "still here");
  expect_echo(p.server, p.client, "both ways");
}

TEST(Fork, ChildsExitKeepsTheParentsConnection) {
  Pair p = connected_pair();
  Child child([] { return 0; });
  EXPECT_EQ(child.wait(), 0);
  expect_echo(p.client, p.server, "still here");
  expect_echo(p.server, p.client, "both ways");
}

TEST(Fork, BothWrite) {
  Pair p = connected_pair();
  constexpr int kLines = 2000;
  const std::string ours(16, 'p');
  const std::string theirs(16, 'c');
  Child child([&] {
    for (int i = 0; i < kLines; ++i) send_all(p.client, theirs);
    return 0;
  });
  std::thread writer([&] {
    for (int i = 0; i < kLines; ++i) send_all(p.client, ours);
  });
  int count[2] = {0, 0};
  for (int i = 0; i < 2 * kLines; ++i) {
    const std::string line = recv_exact(p.server, 16);
    ASSERT_TRUE(line == ours || line == theirs) << "a write was torn: " << line;
    ++count[line == theirs];
  }
  writer.join();
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(count[0], kLines);
  EXPECT_EQ(count[1], kLines);
}

TEST(Fork, ParentAndChildTakeTurnsReading) {
  Pair p = connected_pair();
  send_all(p.client, "abcdef");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(recv_exact(p.server, 2), "ab");
  Child child([&] { return recv_exact(p.server, 2) == "cd" ? 0 : 1; });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(recv_exact(p.server, 2), "ef");
}

TEST(Fork, ChildAcceptsOnTheParentsListener) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Child child([&] {
    Fd server = accept_from(listener);
    send_all(server, recv_exact(server, 4));
    return 0;
  });
  listener.reset();
  Fd client = connect_to("127.0.0.1", port);
  send_all(client, "work");
  EXPECT_EQ(recv_exact(client, 4), "work");
  EXPECT_EQ(child.wait(), 0);
}

TEST(Fork, ServerPerConnection) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Child server([&] {
    for (int i = 0; i < 5; ++i) {
      Fd fd = accept_from(listener);
      if (fork() == 0) {
        listener.reset();
        send_all(fd, recv_to_eof(fd));
        _exit(0);
      }
    }
    while (wait(nullptr) > 0) {
    }
    return 0;
  });
  listener.reset();
  for (int i = 0; i < 5; ++i) {
    Fd client = connect_to("127.0.0.1", port);
    const std::string data = pattern(30'000, static_cast<std::uint64_t>(i));
    send_all(client, data);
    shutdown(client, SHUT_WR);
    EXPECT_TRUE(recv_to_eof(client) == data);
  }
  EXPECT_EQ(server.wait(), 0);
}

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
