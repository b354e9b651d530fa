#include "sockets/holders/adopt.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "sockets/options/options.h"
#include "sockets/options/plain_options.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

wire::Endpoint ipv4(const char* text, std::uint16_t port) {
  wire::Endpoint e;
  e.family = AF_INET;
  e.port = port;
  EXPECT_EQ(1, inet_pton(AF_INET, text, e.address.data()));
  return e;
}

wire::Endpoint ipv6(const char* text, std::uint16_t port) {
  wire::Endpoint e;
  e.family = AF_INET6;
  e.port = port;
  EXPECT_EQ(1, inet_pton(AF_INET6, text, e.address.data()));
  return e;
}

const Label kLabel{ipv4("10.77.0.1", 40'000), ipv4("10.77.0.2", 6379), AF_INET};

struct Pair {
  int fds[2];
  explicit Pair(int type = SOCK_STREAM) { EXPECT_EQ(0, ::socketpair(AF_UNIX, type, 0, fds)); }
  ~Pair() {
    close_ours(fds[0]);
    close_ours(fds[1]);
  }
  static void close_ours(int fd) {
    if (fd < 0) return;
    if (Socket* s = take_out(fd)) drop_reference(s);
    ::close(fd);
  }
  void close(int end) {
    close_ours(fds[end]);
    fds[end] = -1;
  }
};

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

Socket* plain(int fd) {
  Socket* s = lookup(fd);
  return s != nullptr && s->kind.load() == Kind::kPlain ? s : nullptr;
}

TEST(PlainAdoption, TakesALabelledSocketAndNothingElse) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  adopt_plain(p.fds[0]);
  adopt_plain(p.fds[1]);
  Socket* s = plain(p.fds[0]);
  ASSERT_NE(nullptr, s);
  EXPECT_EQ(nullptr, lookup(p.fds[1]));
  EXPECT_EQ(AF_INET, s->family);
  EXPECT_EQ(kLabel.local, s->connection->local);
  EXPECT_EQ(kLabel.remote, s->connection->remote);
  EXPECT_EQ(Downgrade::kPlain, s->connection->downgrade.load());
  EXPECT_EQ(nullptr, s->connection->own);
  EXPECT_EQ(-1, s->reservation);
}

TEST(PlainAdoption, DescriptorsOfOneSocketShareItsPage) {
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  const int copy = ::dup(p.fds[0]);
  adopt_plain(p.fds[0]);
  adopt_plain(copy);
  adopt_plain(copy);
  ASSERT_NE(nullptr, plain(copy));
  EXPECT_EQ(plain(p.fds[0]), plain(copy));
  EXPECT_EQ(2u, plain(copy)->refs.load());
  Pair::close_ours(copy);
  EXPECT_EQ(1u, plain(p.fds[0])->refs.load());
}

TEST(PlainAdoption, AfterExecEveryOpenDescriptorIsLookedAt) {
  std::vector<int> fillers;
  for (int i = 0; i < 200; ++i)
    fillers.push_back(::dup(STDERR_FILENO));  // several reads of the directory
  Pair p;
  ASSERT_TRUE(write_label(p.fds[0], kLabel));
  adopt_inherited();
  EXPECT_NE(nullptr, plain(p.fds[0]));
  EXPECT_EQ(nullptr, lookup(p.fds[1]));
  for (int fd : fillers) ::close(fd);

  const auto begin = std::chrono::steady_clock::now();
  constexpr int kRounds = 100;
  for (int i = 0; i < kRounds; ++i) adopt_inherited();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  RecordProperty("adopt_inherited_us", std::to_string(took.count() / kRounds));
}

struct PlainCalls : testing::Test {
  Pair p;
  Socket* s = nullptr;
  void SetUp() override {
    ASSERT_TRUE(write_label(p.fds[0], kLabel));
    adopt_plain(p.fds[0]);
    s = plain(p.fds[0]);
    ASSERT_NE(nullptr, s);
  }
  template <typename T>
  T get(int level, int name) {
    T value{};
    socklen_t length = sizeof value;
    EXPECT_EQ(0, get_plain_option(p.fds[0], s, level, name, &value, &length)) << name;
    return value;
  }
  template <typename T>
  long set(int level, int name, const T& value) {
    return set_plain_option(p.fds[0], s, level, name, &value, sizeof value);
  }
};

TEST_F(PlainCalls, TheSocketIsATcpSocketByItsOptions) {
  EXPECT_EQ(AF_INET, get<int>(SOL_SOCKET, SO_DOMAIN));
  EXPECT_EQ(SOCK_STREAM, get<int>(SOL_SOCKET, SO_TYPE));
  EXPECT_EQ(IPPROTO_TCP, get<int>(SOL_SOCKET, SO_PROTOCOL));
  EXPECT_EQ(0, get<int>(SOL_SOCKET, SO_ACCEPTCONN));
  EXPECT_EQ(0, get<int>(IPPROTO_TCP, TCP_NODELAY));
  EXPECT_EQ(0, set(IPPROTO_TCP, TCP_NODELAY, 1));
  EXPECT_EQ(1, get<int>(IPPROTO_TCP, TCP_NODELAY));
  EXPECT_EQ(TCP_ESTABLISHED, get<tcp_info>(IPPROTO_TCP, TCP_INFO).tcpi_state);
  EXPECT_NE(0, set(SOL_SOCKET, SO_PASSCRED, 1));
  EXPECT_EQ(0, set(SOL_SOCKET, SO_LINGER, linger{1, 3}));
  EXPECT_EQ(3, get<linger>(SOL_SOCKET, SO_LINGER).l_linger);
}

TEST_F(PlainCalls, TimeoutsAndLowWaterHaveTheirEffect) {
  EXPECT_EQ(0, set(SOL_SOCKET, SO_RCVTIMEO, timeval{0, 20'000}));
  EXPECT_EQ(20'000, get<timeval>(SOL_SOCKET, SO_RCVTIMEO).tv_usec);
  char byte;
  EXPECT_EQ(-1, ::recv(p.fds[0], &byte, 1, 0));
  EXPECT_EQ(EAGAIN, errno);
  EXPECT_EQ(0, set(SOL_SOCKET, SO_RCVLOWAT, 3));
  EXPECT_EQ(3, get<int>(SOL_SOCKET, SO_RCVLOWAT));
}

TEST_F(PlainCalls, BuffersAreShownAsTcpWouldAndFelt) {
  int before = 0;
  socklen_t length = sizeof before;
  ::getsockopt(p.fds[0], SOL_SOCKET, SO_SNDBUF, &before, &length);
  EXPECT_EQ(0, set(SOL_SOCKET, SO_SNDBUF, 8192));
  EXPECT_EQ(16'384, get<int>(SOL_SOCKET, SO_SNDBUF));
  int after = 0;
  ::getsockopt(p.fds[0], SOL_SOCKET, SO_SNDBUF, &after, &length);
  EXPECT_EQ(16'384, after);
  EXPECT_NE(before, after);
}

TEST_F(PlainCalls, AResetIsReportedOnceAndEndsTheConnection) {
  EXPECT_FALSE(plain_disconnected(p.fds[0], s));
  ASSERT_EQ(1, ::send(p.fds[0], "x", 1, 0));
  p.close(1);  // with a byte unread
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(ECONNRESET, get<int>(SOL_SOCKET, SO_ERROR));
  EXPECT_EQ(0, get<int>(SOL_SOCKET, SO_ERROR));
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(-ENOTCONN, shutdown_plain(p.fds[0], s, SHUT_RDWR));
}

TEST_F(PlainCalls, AnEndLeavesThePeersNameUntilBothHaveEnded) {
  p.close(1);
  EXPECT_FALSE(plain_disconnected(p.fds[0], s));
  EXPECT_EQ(8, plain_tcp_state(p.fds[0], s));  // CLOSE_WAIT
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_WR));
  EXPECT_TRUE(plain_disconnected(p.fds[0], s));
}

TEST_F(PlainCalls, ShuttingTheReceivingHalfLeavesThePeersSendingAlone) {
  EXPECT_EQ(-EINVAL, shutdown_plain(p.fds[0], s, 3));
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_RD));
  EXPECT_TRUE(plain_read_shut(s));
  EXPECT_EQ(5, ::send(p.fds[1], "bytes", 5, MSG_NOSIGNAL));
  EXPECT_EQ(0, shutdown_plain(p.fds[0], s, SHUT_WR));
  char byte;
  EXPECT_EQ(0, ::recv(p.fds[1], &byte, 1, 0));
}

TEST_F(PlainCalls, Ioctls) {
  int value = -1;
  EXPECT_EQ(0, plain_ioctl(p.fds[0], s, SIOCATMARK, &value));
  EXPECT_EQ(0, value);
  EXPECT_EQ(kPassOn, plain_ioctl(p.fds[0], s, FIONREAD, &value));
  EXPECT_EQ(kPassOn, plain_ioctl(p.fds[0], s, TIOCOUTQ, &value));
  int on = 1;
  EXPECT_EQ(0, plain_ioctl(p.fds[0], s, FIONBIO, &on));
  EXPECT_NE(0, ::fcntl(p.fds[0], F_GETFL) & O_NONBLOCK);
}

}  // namespace
}  // namespace shunt::sockets
