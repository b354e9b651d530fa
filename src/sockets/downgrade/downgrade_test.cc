// Both ends of the downgrade in one process; the system tests `inherit` do it with exec and SCM_RIGHTS.
#include "sockets/downgrade/downgrade.h"

#include <poll.h>
#include <sys/wait.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "sockets/bell/bell.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/follow.h"
#include "sockets/downgrade/moving_rest.h"
#include "sockets/holders/orphan.h"
#include "sockets/process/result.h"
#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_connection.h"
#include "sockets/wait/epoll_control.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sockets/wait/epoll_wait.h"
#include "sockets/wait/poll_select.h"
#include "sys/kernel.h"
#include "wire/message.h"

namespace shunt::sockets {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

std::string pattern(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    seed = seed * 1103515245 + 12345;
    c = static_cast<char>(seed >> 16);
  }
  return bytes;
}

// As the exported functions do it: the provider while it knows the socket, else the kernel.
long put(const TestEnd& end, const std::string& bytes, int flags = 0) {
  const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  const bool ours = end.socket->kind.load() == Kind::kConnection;
  const Outcome r = ours ? send_stream(end.fd, end.socket, &part, 1, flags) : kNotOurs;
  return r != kNotOurs ? r.value()
                       : sys::send(end.fd, bytes.data(), bytes.size(), flags | MSG_NOSIGNAL);
}

long take(const TestEnd& end, void* out, std::size_t size, int flags = 0) {
  const iovec part{out, size};
  const bool ours = end.socket->kind.load() == Kind::kConnection;
  const Outcome r = ours ? receive_stream(end.fd, end.socket, &part, 1, flags) : kNotOurs;
  return r != kNotOurs ? r.value() : sys::recv(end.fd, out, size, flags);
}

std::string take_all(const TestEnd& end, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const long n = take(end, bytes.data() + done, size - done);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

// What a holder without the provider reads.
std::string take_raw(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    pollfd p{fd, POLLIN, 0};
    if (::poll(&p, 1, 2000) != 1) break;
    const ssize_t n = ::recv(fd, bytes.data() + done, size - done, 0);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

// Long strings are not printed.
testing::AssertionResult same(const std::string& expected, const std::string& got) {
  if (expected == got) return testing::AssertionSuccess();
  std::size_t at = 0;
  while (at < expected.size() && at < got.size() && expected[at] == got[at]) ++at;
  return testing::AssertionFailure() << got.size() << " bytes instead of " << expected.size()
                                     << ", the first that differs is " << at;
}

struct DowngradeTest : testing::Test {
  ShuntedPair pair;
  const TestEnd& a = pair.a;
  const TestEnd& b = pair.b;
  DowngradeTest() { a.connection()->connecting_side = true; }
};

TEST_F(DowngradeTest, IdleConnectionBecomesAnOrdinarySocket) {
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  EXPECT_EQ(Kind::kPlain, a.socket->kind.load());
  ASSERT_EQ(4, ::send(a.fd, "ping", 4, 0));
  EXPECT_EQ("ping", take_all(b, 4));
  EXPECT_EQ(Kind::kPlain, b.socket->kind.load()) << "the other end has followed";
  ASSERT_EQ(4, ::send(b.fd, "pong", 4, 0));
  EXPECT_EQ("pong", take_raw(a.fd, 4));
}

TEST_F(DowngradeTest, BytesUnreadOnEitherSideArriveOnceAndInOrder) {
  for (const std::size_t size : {1UL, 100UL, 65536UL, 65537UL, 300'000UL, 1'000'000UL}) {
    SCOPED_TRACE(size);
    ShuntedPair each;
    const std::string to_b = pattern(size, 1);
    const std::string to_a = pattern(size, 2);
    ASSERT_EQ(static_cast<long>(size), put(each.a, to_b));
    ASSERT_EQ(static_cast<long>(size), put(each.b, to_a));
    ASSERT_EQ(Downgraded::kYes, downgrade(each.a.fd, each.a.socket));
    ASSERT_EQ(3, ::send(each.a.fd, "end", 3, 0));
    EXPECT_TRUE(same(to_b + "end", take_all(each.b, size + 3)));
    std::thread reader([&] { EXPECT_TRUE(same(to_a + "fin", take_raw(each.a.fd, size + 3))); });
    EXPECT_EQ(3, put(each.b, "fin"));  // waits until the rest has gone before it
    reader.join();
  }
}

TEST_F(DowngradeTest, WhatWasReadFromTheAreaIsNotReadAgain) {
  const std::string bytes = pattern(100'000, 3);
  for (const std::size_t read_before : {1UL, 40'000UL, 99'999UL, 100'000UL}) {
    SCOPED_TRACE(read_before);
    ShuntedPair each;
    ASSERT_EQ(100'000, put(each.a, bytes));
    // The tail that the first end sees is older than what has been read when the second end looks.
    EXPECT_TRUE(same(bytes.substr(0, 10), take_all(each.b, 10)));
    ASSERT_EQ(Downgraded::kYes, downgrade(each.a.fd, each.a.socket));
    // Straight from the area, as a reader does that has not noticed yet.
    std::string direct(read_before, '\0');
    ring::Status status;
    each.b.connection()->read_end().refresh();
    const std::size_t n = each.b.connection()->read_end().read(
        reinterpret_cast<std::uint8_t*>(direct.data()), direct.size(), &status);
    EXPECT_TRUE(same(bytes.substr(10, n), direct.substr(0, n)));
    EXPECT_TRUE(same(bytes.substr(10 + n), take_all(each.b, 100'000 - 10 - n)));
  }
}

TEST_F(DowngradeTest, BothEnds) {
  const std::string to_b = pattern(50'000, 4);
  const std::string to_a = pattern(60'000, 5);
  ASSERT_EQ(50'000, put(a, to_b));
  ASSERT_EQ(60'000, put(b, to_a));
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  ASSERT_EQ(Downgraded::kYes, downgrade(b.fd, b.socket)) << "nothing is left in an area";
  EXPECT_TRUE(same(to_b, take_raw(b.fd, to_b.size())));
  EXPECT_TRUE(same(to_a, take_raw(a.fd, to_a.size())));
}

TEST_F(DowngradeTest, BothEndsAtTheSameTime) {
  for (int round = 0; round < 200; ++round) {
    ShuntedPair each;
    each.a.connection()->connecting_side = true;
    const std::string to_b = pattern(5'000, 6);
    ASSERT_EQ(5'000, put(each.a, to_b));
    ASSERT_EQ(5'000, put(each.b, to_b));
    std::thread other([&] { EXPECT_EQ(Downgraded::kYes, downgrade(each.b.fd, each.b.socket)); });
    EXPECT_EQ(Downgraded::kYes, downgrade(each.a.fd, each.a.socket));
    other.join();
    EXPECT_TRUE(same(to_b, take_raw(each.b.fd, to_b.size()))) << round;
    EXPECT_TRUE(same(to_b, take_raw(each.a.fd, to_b.size()))) << round;
  }
}

TEST_F(DowngradeTest, NoRingIsTakenForAByte) {
  for (int round = 0; round < 300; ++round) {
    ShuntedPair each;
    // b writes, a sleeps and wakes: rings are under way in both directions when the downgrade begins.
    std::thread writer([&] {
      for (int i = 0; i < 200; ++i) ASSERT_EQ(8, put(each.b, "abcdefgh"));
      EXPECT_EQ("!", take_all(each.b, 1));  // whoever waits for an answer notices
    });
    std::string got;
    while (got.size() < 400) got += take_all(each.a, 8);
    ASSERT_EQ(Downgraded::kYes, downgrade(each.a.fd, each.a.socket));
    got += take_raw(each.a.fd, 1600 - got.size());
    ASSERT_EQ(1, ::send(each.a.fd, "!", 1, 0));
    writer.join();
    std::string expected;
    for (int i = 0; i < 200; ++i) expected += "abcdefgh";
    ASSERT_TRUE(same(expected, got)) << round;
  }
}

TEST_F(DowngradeTest, ASleepingReaderGoesOn) {
  std::thread reader([&] { EXPECT_EQ("hello", take_all(b, 5)); });
  while (b.connection()->bell_state.sleepers.load() == 0) std::this_thread::yield();
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  ASSERT_EQ(5, ::send(a.fd, "hello", 5, 0));
  reader.join();
}

TEST_F(DowngradeTest, ASleepingWriterGoesOn) {
  const std::string big = pattern(6'000'000, 7);
  std::thread writer([&] { EXPECT_EQ(6'000'000, put(b, big)); });
  while (b.connection()->bell_state.sleepers.load() == 0) std::this_thread::yield();
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  EXPECT_TRUE(same(big, take_raw(a.fd, big.size())));
  writer.join();
}

TEST_F(DowngradeTest, PollSeesPlainBytes) {
  ASSERT_EQ(4, put(a, "rest"));
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  pollfd p{b.fd, POLLIN | POLLOUT, 0};
  ASSERT_EQ(1, wait_poll(&p, 1, kSecond, nullptr));
  EXPECT_EQ(POLLIN | POLLOUT, p.revents);
  EXPECT_EQ("rest", take_all(b, 4));
  p.events = POLLIN;
  Outcome r = wait_poll(&p, 1, 0, nullptr);
  EXPECT_EQ(0, r == kPassOn ? ::poll(&p, 1, 0) : r.value());
  ASSERT_EQ(1, ::send(a.fd, "x", 1, 0));
  r = wait_poll(&p, 1, kSecond, nullptr);
  EXPECT_EQ(1, r == kPassOn ? ::poll(&p, 1, 1000) : r.value());
}

struct DowngradeEpoll : DowngradeTest, testing::WithParamInterface<std::uint32_t> {
  DowngradeEpoll() : epfd(epoll_create1(EPOLL_CLOEXEC)) { made_epoll(epfd); }
  ~DowngradeEpoll() override {
    drop_reference(take_out(epfd));
    ::close(epfd);
  }
  std::uint32_t wait(std::int64_t ns) {
    epoll_event event{};
    Outcome n = wait_epoll(epfd, &event, 1, ns, nullptr);
    if (n == kPassOn) n = epoll_wait(epfd, &event, 1, static_cast<int>(ns / 1'000'000));
    if (n != 1) return 0;
    EXPECT_EQ(event.data.u64, 42u);
    return event.events;
  }
  int epfd;
};

TEST_P(DowngradeEpoll, GoesOn) {
  epoll_event event{};
  event.events = EPOLLIN | GetParam();
  event.data.u64 = 42;
  ASSERT_EQ(0, control_epoll(epfd, EPOLL_CTL_ADD, b.fd, &event));
  EXPECT_EQ(0u, wait(1'000'000));
  const std::string rest = pattern(200'000, 8);
  ASSERT_EQ(200'000, put(a, rest));
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  ASSERT_NE(0u, wait(kSecond) & EPOLLIN);
  EXPECT_TRUE(same(rest, take_all(b, rest.size())));
  char byte;
  EXPECT_EQ(-EAGAIN, take(b, &byte, 1, MSG_DONTWAIT));
  for (int i = 0; i < 3; ++i) {
    while (wait(1'000'000) != 0) {
    }
    ASSERT_EQ(1, ::send(a.fd, "x", 1, 0));
    ASSERT_NE(0u, wait(kSecond) & EPOLLIN) << i;
    EXPECT_EQ("x", take_all(b, 1));
  }
  ::shutdown(a.fd, SHUT_WR);
  EXPECT_NE(0u, wait(kSecond) & EPOLLIN);
}
INSTANTIATE_TEST_SUITE_P(Levels, DowngradeEpoll,
                         testing::Values(0u, static_cast<std::uint32_t>(EPOLLET)));

TEST_F(DowngradeTest, HalfCloseBeforeAndAfter) {
  ASSERT_EQ(4, put(a, "last"));
  ASSERT_EQ(0, shutdown_stream(a.fd, a.socket, SHUT_WR));
  ASSERT_EQ(3, put(b, "ack"));
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  EXPECT_EQ("last", take_all(b, 100)) << "then the end of the stream";
  EXPECT_EQ("ack", take_raw(a.fd, 3));
}

TEST_F(DowngradeTest, RestIsSentBeforeTheHalfClose) {
  const std::string big = pattern(3'000'000, 9);
  ASSERT_EQ(3'000'000, put(b, big));
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  std::string got;
  std::thread reader([&] { got = take_raw(a.fd, big.size() + 1); });
  Outcome r = kNotOurs;
  while (r == kNotOurs && b.socket->kind.load() == Kind::kConnection) {
    r = shutdown_stream(b.fd, b.socket, SHUT_WR);
  }
  if (r == kNotOurs) r = ::shutdown(b.fd, SHUT_WR);
  EXPECT_EQ(0, r);
  send_rest_before_close(b.fd, b.socket, sys::monotonic_ns() + 5 * kSecond);
  reader.join();
  EXPECT_TRUE(same(big, got));
}

TEST_F(DowngradeTest, APeerThatIsGoneLeavesItsBytes) {
  const int other = b.fd;
  ASSERT_EQ(5, put(b, "bytes"));
  b.connection()->write_end().set_flags(layout::kFlagFin | layout::kFlagClosed);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(other, ::dup2(null, other));
  ::close(null);
  ASSERT_EQ(Downgraded::kPeerGone, downgrade(a.fd, a.socket));
  ASSERT_EQ(0, move_to_pair(a.fd, a.socket));
  char buffer[16];
  EXPECT_EQ(5, ::recv(a.fd, buffer, sizeof buffer, 0));
  EXPECT_EQ(0, ::recv(a.fd, buffer, sizeof buffer, 0)) << "then the end of the stream";
}

// The one that comes second finds a plain socket where it looked for a connection: that is no reason to say "later".
TEST_F(DowngradeTest, TwoThreadsFollowAtOnce) {
  for (int round = 0; round < 200; ++round) {
    ShuntedPair each;
    ASSERT_EQ(Downgraded::kYes, downgrade(each.a.fd, each.a.socket));
    absorb_events(each.b.connection());
    ASSERT_TRUE(follow_due(each.b.connection()));
    std::atomic<int> ready{0};
    const auto follow = [&] {
      ++ready;
      while (ready != 2) {
      }
      EXPECT_TRUE(follow_downgrade(each.b.fd, each.b.socket)) << round;
    };
    std::thread other(follow);
    follow();
    other.join();
    EXPECT_EQ(conn::Carriage::kPlain, carriage(each.b.connection()));
  }
}

// A process that shares the connection is killed inside a lock: what the lock guards may be half changed.
void die_inside(Lock& lock) {
  const pid_t child = ::fork();
  if (child == 0) {
    forget_thread_id();
    lock.acquire();
    ::_exit(0);
  }
  ASSERT_EQ(child, ::waitpid(child, nullptr, 0));
}

TEST_F(DowngradeTest, AHolderThatWasKilledInsideResetsTheRestToo) {
  ASSERT_EQ(Downgraded::kYes, downgrade(a.fd, a.socket));
  b.connection()->state.pending_error = ETIMEDOUT;  // still to be reported: that is a rest, too
  char buffer[16];
  stream_events(b.socket, POLLIN);
  ASSERT_EQ(conn::Carriage::kRest, carriage(b.connection()));
  die_inside(b.connection()->rx);
  EXPECT_EQ(-ECONNRESET, take(b, buffer, sizeof buffer));
  EXPECT_EQ(conn::Carriage::kLost, carriage(b.connection()));
}

TEST_F(DowngradeTest, AHolderThatWasKilledInsideIsNoticedByShutdownAndDowngrade) {
  die_inside(b.connection()->tx);
  EXPECT_EQ(-ENOTCONN, shutdown_stream(b.fd, b.socket, SHUT_WR));
  EXPECT_EQ(conn::Carriage::kLost, carriage(b.connection()));
  die_inside(a.connection()->tx);
  EXPECT_EQ(Downgraded::kPeerGone, downgrade(a.fd, a.socket))
      << "lost: there is no peer to agree with";
}

TEST_F(DowngradeTest, NotAcceptedYet) {
  int bells[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM, 0, bells));
  Connection* c = allocate_connection();
  std::uint32_t generation;
  int area;
  c->use_own(make_area(&generation, &area));
  c->write_end().set_limit(layout::kStreamBytes);
  Socket* s = enter(bells[0], Kind::kConnection, AF_INET);
  s->connection = c;
  EXPECT_EQ(Downgraded::kNotNow, downgrade(bells[0], s));
  EXPECT_EQ(Kind::kConnection, s->kind.load());
  drop_reference(take_out(bells[0]));
  for (const int fd : {bells[0], bells[1], area}) ::close(fd);
}

// A peer that says it has switched, and lies.
struct HostileDowngrade : DowngradeTest {
  void say_plain(const void* mark, std::size_t size) {
    if (size > 0) {
      EXPECT_EQ(static_cast<ssize_t>(size), ::send(a.fd, mark, size, 0));
    }
    a.connection()->own->switch_line.plain.store(layout::kPlain);
    a.connection()->own->hot.flags.fetch_or(layout::kFlagPlain);
  }
  void expect_reset() {
    char byte;
    EXPECT_EQ(-ECONNRESET, take(b, &byte, 1, MSG_DONTWAIT));
  }
};

TEST_F(HostileDowngrade, NoMark) {
  say_plain(nullptr, 0);
  expect_reset();
}
TEST_F(HostileDowngrade, HalfAMark) {
  say_plain("\x50\0\0", 3);
  expect_reset();
}
TEST_F(HostileDowngrade, AnotherMark) {
  say_plain("ABCDEFGHIJKLMNOPQRS", 19);
  expect_reset();
}
TEST_F(HostileDowngrade, APositionThatWasNeverWritten) {
  std::uint8_t mark[16] = {wire::kPlainMark};
  mark[8] = 1;
  say_plain(mark, sizeof mark);
  expect_reset();
}
TEST_F(HostileDowngrade, LessIsCarriedThanWasSaid) {
  ASSERT_EQ(10, put(a, "0123456789"));
  EXPECT_EQ("01234567", take_all(b, 8));
  std::uint8_t mark[16] = {wire::kPlainMark};
  say_plain(mark, sizeof mark);  // from 0, but nothing follows
  char bytes[16];
  const long n = take(b, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n > 0)
    expect_reset();
  else
    EXPECT_EQ(-ECONNRESET, n);
}
TEST_F(HostileDowngrade, SwitchingForEver) {
  a.connection()->own->switch_line.plain.store(layout::kSwitching);
  a.connection()->own->switch_line.ringing.store(1);
  EXPECT_EQ(Downgraded::kNotNow, downgrade(b.fd, b.socket)) << "it is waited for only a while";
  a.connection()->own->switch_line.ringing.store(0);
}
TEST_F(HostileDowngrade, SwitchingForEverIsWaitedForOnce) {
  a.connection()->own->switch_line.plain.store(layout::kSwitching);
  const Hold tx(b.connection()->tx);
  ring(b.fd, b.connection());
  const std::uint32_t waits = b.connection()->switch_waits.load();
  for (int i = 0; i < 1000; ++i) ring(b.fd, b.connection());
  EXPECT_EQ(waits, b.connection()->switch_waits.load());
  char byte;
  EXPECT_EQ(-EAGAIN, sys::recv(a.fd, &byte, 1, MSG_DONTWAIT)) << "and it is not rung";
}

}  // namespace
}  // namespace shunt::sockets
