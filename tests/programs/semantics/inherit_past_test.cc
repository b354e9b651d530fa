// What the peer, or the old program, has done before another program got the connection; and the new program's
// end as the peer sees it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "inherit_peer.h"

namespace shunt::test {
namespace {

class InheritPast : public InheritPeer {};

// The peer leaves at any moment around the exec: what it wrote before is in somebody's hands at each.
void the_peer_leaves(const std::function<void(Fd&)>& leave) {
  const Fd listener = listen_on();
  for (int round = 0; round < 200; ++round) {
    Child peer([&] {
      Fd fd = connect_to("127.0.0.1", port_of(listener));
      send_all(fd, "hello");
      const auto end =
          std::chrono::steady_clock::now() + std::chrono::microseconds(200 + round * 7);
      while (std::chrono::steady_clock::now() < end) {
      }
      leave(fd);
      return 0;
    });
    Fd server = accept_from(listener);
    int out[2];
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    Child program([&] {
      dup2(server, 0);
      dup2(out[1], 1);
      execlp("cat", "cat", nullptr);
      return 1;
    });
    server.reset();
    close(out[1]);
    std::string got;
    char bytes[16];
    for (ssize_t n; (n = read(out[0], bytes, sizeof bytes)) > 0;)
      got.append(bytes, static_cast<std::size_t>(n));
    close(out[0]);
    ASSERT_EQ(got, "hello") << round;
    ASSERT_EQ(program.wait(), 0) << round;
    ASSERT_EQ(peer.wait(), 0) << round;
  }
}

TEST(InheritRace, ThePeerClosesMeanwhile) {
  the_peer_leaves([](Fd& fd) { fd.reset(); });
}

TEST(InheritRace, ThePeerPutsAnotherInItsPlaceMeanwhile) {
  the_peer_leaves([](Fd& fd) { dup2(STDERR_FILENO, fd); });
}

TEST(InheritRace, ThePeerEndsMeanwhile) {
  the_peer_leaves([](Fd&) { std::exit(0); });
}

TEST_P(InheritPast, HasWrittenAndClosed) {
  Handover h(plan({"recv:1:0:100000", "eof"}));
  send_all(h.peer, pattern(100'000));
  h.peer.reset();
  h.go();
  EXPECT_EQ(h.wait(), 0);
}

// The peer's bytes are on their way whatever its process does now: here it makes no call on the
// connection until the new program has them.
TEST_P(InheritPast, HasWrittenAndLooksAway) {
  for (const char* size : {"10", "100000"}) {
    Handover h(plan({std::string("recv:1:0:") + size, "say", "await", "send:2:0:10"}));
    send_all(h.peer, pattern(std::stoul(size)));
    h.go();
    h.hear();
    h.tell();
    EXPECT_EQ(h.wait(), 0);
    EXPECT_EQ(recv_to_eof(h.peer), pattern(10, 2));
  }
}

TEST_P(InheritPast, HasEndedItsHalfAndLooksAway) {
  Handover h(plan({"recv:1:0:100000", "eof"}));
  send_all(h.peer, pattern(100'000));
  shutdown(h.peer, SHUT_WR);
  h.go();
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, HasWrittenAndBeenStopped) {
  Handover h(plan({"recv:1:0:100000", "say", "eof"}));
  Child holder([&] {
    send_all(h.peer, pattern(100'000));
    raise(SIGSTOP);
    return 0;
  });
  h.peer.reset();
  int status = 0;
  ASSERT_EQ(waitpid(holder.pid(), &status, WUNTRACED), holder.pid());
  h.go();
  h.hear();
  kill(holder.pid(), SIGCONT);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(h.wait(), 0);
}

// The new program is there; what the peer says now needs no further call of the peer's either.
TEST_P(InheritPast, WritesAfterwardsAndLooksAway) {
  Handover h(plan({"say", "recv:1:0:200000", "eof"}));
  send_all(h.peer, pattern(100'000));
  h.go();
  h.hear();
  send_all(h.peer, pattern(100'000, 1, 100'000));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, HasWrittenAndBeenKilled) {
  Handover h(plan({"recv:1:0:100000", "eof"}));
  {
    Child holder([&] {
      send_all(h.peer, pattern(100'000));
      kill(getpid(), SIGKILL);
      return 0;
    });
    h.peer.reset();
    EXPECT_EQ(holder.wait(), 128 + SIGKILL);
  }
  h.go();
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, HasClosedWithUnreadBytes) {
  Plan p = plan({"reset"});
  p.before = [](int fd) {
    send_all(fd, "nobody reads this");
    return std::size_t{0};
  };
  Handover h(std::move(p));
  EXPECT_EQ(wait_for(h.peer, POLLIN), POLLIN);
  h.peer.reset();
  h.go();
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, HasEndedItsHalf) {
  Handover h(plan({"recv:1:0:100000", "eof", "send:2:0:100000"}));
  send_all(h.peer, pattern(100'000));
  shutdown(h.peer, SHUT_WR);
  h.go();
  EXPECT_TRUE(recv_to_eof(h.peer) == pattern(100'000, 2));
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, SeesTheHalfEndedByTheOldProgram) {
  Plan p = plan({"pipe", "recv:2:0:100000", "eof"});
  p.before = [](int fd) {
    send_all(fd, pattern(100'000));
    shutdown(fd, SHUT_WR);
    return std::size_t{0};
  };
  Handover h(std::move(p));
  h.go();
  EXPECT_TRUE(recv_to_eof(h.peer) == pattern(100'000));
  send_all(h.peer, pattern(100'000, 2));
  shutdown(h.peer, SHUT_WR);
  EXPECT_EQ(h.wait(), 0);
}

TEST_P(InheritPast, SeesTheKilledNewProgramsEnd) {
  Handover h(plan({"recv:1:0:10", "send:1:0:100000", "say", "pause"}));
  send_all(h.peer, pattern(10));
  h.go();
  h.hear();
  h.kill();
  EXPECT_TRUE(recv_to_eof(h.peer) == pattern(100'000));
}

TEST_P(InheritPast, SleepsWhenTheNewProgramIsKilled) {
  Handover h(plan({"say", "pause"}));
  h.go();
  h.hear();
  Sleeper reader([&] { expect_eof(h.peer); });
  h.kill();
}

TEST_P(InheritPast, IsResetByTheKilledNewProgramsUnreadBytes) {
  Handover h(plan({"say", "pause"}));
  send_all(h.peer, "nobody reads this");
  h.go();
  h.hear();
  h.kill();
  ASSERT_NE(wait_for(h.peer, POLLIN), 0);
  char byte;
  expect_error(recv(h.peer, &byte, 1, 0), ECONNRESET);
}

TEST_P(InheritPast, SeesTheNewProgramsDeathWhileItSends) {
  Handover h(plan({"say", "pause"}));
  h.go();
  h.hear();
  fill_with_pattern(h.peer);
  int error = 0;
  {
    Sleeper sender([&] {
      while (send(h.peer, "more", 4, MSG_NOSIGNAL) > 0) {
      }
      error = errno;
    });
    h.kill();
  }
  EXPECT_TRUE(error == ECONNRESET || error == EPIPE) << strerror(error);
}

TEST_P(InheritPast, KeepsTheFlagsOfTheConnection) {
  for (const bool nonblocking : {false, true}) {
    Plan p = plan({nonblocking ? "nonblocking" : "blocking", "recv:1:0:200000", "send:1:0:200000"});
    p.before = [nonblocking](int fd) {
      set_nonblocking(fd, nonblocking);
      return std::size_t{0};
    };
    Handover h(std::move(p));
    h.go();
    send_all(h.peer, pattern(200'000));
    EXPECT_TRUE(recv_to_eof(h.peer) == pattern(200'000));
    EXPECT_EQ(h.wait(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritPast, ::testing::ValuesIn(kPeerCases), peer_case_name);

}  // namespace
}  // namespace shunt::test
