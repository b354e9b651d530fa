// Descriptors: dup and friends, flags, numbers.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "net.h"

namespace shunt::test {
namespace {

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

}  // namespace
}  // namespace shunt::test
