#include "sockets/downgrade/label.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/wait.h>

#include <cstring>
#include <vector>

#include "sockets/testing/test_plain.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

std::vector<sock_filter> filter_of(int fd) {
  std::vector<sock_filter> filter(64);
  socklen_t count = 64;
  EXPECT_EQ(0, ::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, filter.data(), &count));
  filter.resize(count);
  return filter;
}

bool attach(int fd, std::vector<sock_filter> filter) {
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

void expect_label(int fd, const Label& expected) {
  Label found;
  ASSERT_TRUE(read_label(fd, &found));
  EXPECT_EQ(expected.local, found.local);
  EXPECT_EQ(expected.remote, found.remote);
  EXPECT_EQ(expected.family, found.family);
}

TEST(PlainLabel, IsReadBackFromTheSameEndOnly) {
  Pair p;
  Label found;
  EXPECT_FALSE(read_label(p.fds[0], &found));
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  expect_label(p.fds[0], kLabel);
  EXPECT_FALSE(read_label(p.fds[1], &found));
}

TEST(PlainLabel, CarriesEveryKindOfAddress) {
  Pair p;
  for (const Label& label :
       {Label{ipv6("fd00::1", 1), ipv6("fd00::2", 65535), AF_INET6},
        Label{ipv4("127.0.0.1", 1), ipv4("127.0.0.1", 2), AF_INET6},  // IPv4-mapped
        Label{ipv6("::1", 0), ipv6("::1", 0xabcd), AF_INET6}}) {
    ASSERT_TRUE(write_label(p.fds[0], label));
    expect_label(p.fds[0], label);
  }
}

TEST(PlainLabel, DoesNotTouchTheStream) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  ASSERT_TRUE(write_label(p.fds[1], kLabel));
  for (int from = 0; from < 2; ++from) {
    const std::string sent(50'000, static_cast<char>('a' + from));
    ASSERT_EQ(50'000, ::send(p.fds[from], sent.data(), sent.size(), 0));
    std::string got(50'000, '\0');
    ASSERT_EQ(50'000, ::recv(p.fds[1 - from], got.data(), got.size(), MSG_WAITALL));
    EXPECT_EQ(sent, got);
  }
}

TEST(PlainLabel, SurvivesExec) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  const std::string here = "/proc/self/fd/" + std::to_string(p.fds[0]);
  // A child that execs (cat, on the labelled socket): the socket is the same one afterwards.
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(p.fds[0], STDIN_FILENO);
    ::execl("/bin/cat", "cat", nullptr);
    ::_exit(127);
  }
  ::shutdown(p.fds[1], SHUT_WR);
  int status = 0;
  ASSERT_EQ(pid, ::waitpid(pid, &status, 0));
  EXPECT_EQ(0, status);
  expect_label(p.fds[0], kLabel);
}

TEST(PlainLabel, OtherFiltersAreNotTaken) {
  Pair p;
  Label found;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  const std::vector<sock_filter> good = filter_of(p.fds[0]);
  ASSERT_EQ(13u, good.size());
  const auto refused = [&](auto change) {
    std::vector<sock_filter> bad = good;
    change(bad);
    EXPECT_TRUE(attach(p.fds[1], bad));
    return !read_label(p.fds[1], &found);
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& f) { f[0].k ^= 1; })) << "magic";
  EXPECT_TRUE(refused([](auto& f) { f[1].k += 0x10000; })) << "version";
  EXPECT_TRUE(refused([](auto& f) { f[1].k = (f[1].k & ~0xffffu) | AF_UNIX; })) << "family";
  EXPECT_TRUE(refused([](auto& f) { f[2].k += 0x10000; })) << "local family";
  EXPECT_TRUE(refused([](auto& f) { f[6].k = 1; })) << "behind an IPv4 address";
  EXPECT_TRUE(refused([](auto& f) { f[7].k = 0; })) << "no remote address";
  EXPECT_TRUE(refused([](auto& f) { f[3] = BPF_STMT(BPF_LDX | BPF_IMM, f[3].k); })) << "code";
  EXPECT_TRUE(refused([](auto& f) { f[3].jt = 1; })) << "jump in a load";
  EXPECT_TRUE(refused([](auto& f) { f[12].k = 0; })) << "refuses everything";
  EXPECT_TRUE(refused([](auto& f) { f.erase(f.begin() + 5); })) << "too short";
  EXPECT_TRUE(refused([](auto& f) { f.insert(f.begin(), f[0]); })) << "too long";
  EXPECT_TRUE(refused([](auto& f) { f = {BPF_STMT(BPF_RET | BPF_K, 0)}; })) << "somebody else's";
}

TEST(PlainLabel, OnlyStreamSocketsOfAfUnixAreAsked) {
  Label found;
  Pair datagrams(SOCK_DGRAM);
  ASSERT_TRUE(write_label(datagrams.fds[0], kLabel));
  EXPECT_FALSE(read_label(datagrams.fds[0], &found));
  const int tcp = ::socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_TRUE(write_label(tcp, kLabel));
  EXPECT_FALSE(read_label(tcp, &found));
  ::close(tcp);
  EXPECT_FALSE(read_label(-1, &found));
  int pipe[2];
  ASSERT_EQ(0, ::pipe(pipe));
  EXPECT_FALSE(read_label(pipe[0], &found));
  ::close(pipe[0]);
  ::close(pipe[1]);
}

}  // namespace
}  // namespace shunt::sockets
