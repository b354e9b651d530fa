// Connections that travel more than once, at both ends, in company, or before they are accepted.
#include <gtest/gtest.h>

#include "inherit.h"

namespace shunt::test {
namespace {

struct Channel {
  Channel() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ours = Fd(fds[0]);
    theirs = Fd(fds[1]);
  }
  Fd ours;
  Fd theirs;
};

// What a fork's child and its parent pass to each other, and what is in flight without a holder.
TEST(InheritPassed, WhileNobodyHoldsIt) {
  Channel channel;
  Pair p = connected_pair();
  const std::string server = local_address(p.server).text();
  send_all(p.client, pattern(1000));
  send_all(p.server, "sent before ");
  pass(channel.ours, {p.server});
  p.server.reset();
  send_all(p.client, pattern(1000, 1, 1000));
  Child child([&] {
    p.client.reset();
    std::vector<Fd> fds = taken(channel.theirs);
    if (local_address(fds.at(0)).text() != server) return 1;
    if (recv_exact(fds[0], 2000) != pattern(2000)) return 2;
    send_all(fds[0], "and after");
    return 0;
  });
  channel.theirs.reset();
  EXPECT_EQ(recv_to_eof(p.client), "sent before and after");
  EXPECT_EQ(child.wait(), 0);
}

TEST(InheritPassed, AndDroppedOnTheWay) {
  Pair p = connected_pair();
  {
    Channel channel;
    pass(channel.ours, {p.server});
    p.server.reset();
    EXPECT_EQ(wait_for(p.client, POLLIN, 0), 0);
  }
  expect_eof(p.client);
}

TEST(InheritPassed, SeveralInOneMessage) {
  Channel channel;
  Pair one = connected_pair();
  Pair two = connected_pair("::1");
  int tube[2];
  ASSERT_EQ(pipe2(tube, O_CLOEXEC), 0);
  const Fd in(tube[1]);
  Fd out(tube[0]);
  send_all(one.client, "one");
  send_all(two.server, "two");
  const std::string name = local_address(two.client).text();
  pass(channel.ours, {one.server, out, two.client}, "with text");
  Child child([&] {
    for (Fd* fd : {&one.client, &one.server, &two.client, &two.server}) fd->reset();
    std::vector<Fd> fds = taken(channel.theirs);
    if (fds.size() != 3) return 1;
    if (local_address(fds[2]).text() != name) return 2;
    send_all(fds[0], recv_exact(fds[0], 3));
    send_all(fds[2], recv_exact(fds[2], 3));
    char byte;
    return read(fds[1], &byte, 1) == 1 ? 0 : 3;
  });
  EXPECT_EQ(write(in, "x", 1), 1);
  EXPECT_EQ(recv_exact(one.client, 3), "one");
  EXPECT_EQ(recv_exact(two.server, 3), "two");
  EXPECT_EQ(child.wait(), 0);
}

TEST(InheritPassed, ToItself) {
  Channel channel;
  Pair p = connected_pair();
  pass(channel.ours, {p.server});
  std::vector<Fd> fds = taken(channel.theirs);
  ASSERT_EQ(fds.size(), 1U);
  expect_echo(p.client, fds[0], "by the new number");
  expect_echo(p.client, p.server, "by the old one");
  p.server.reset();
  expect_echo(fds[0], p.client, "by what is left");
  EXPECT_EQ(peer_address(fds[0]).text(), local_address(p.client).text());
  fds.clear();
  expect_eof(p.client);
}

// There and back: the sender gets its own connection again and goes on with it.
TEST(InheritPassed, AndPassedBack) {
  Channel channel;
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    p.server.reset();
    std::vector<Fd> fds = taken(channel.theirs);
    send_all(fds.at(0), recv_exact(fds[0], 4) + "!");
    pass(channel.theirs, {fds[0]});
    return 0;
  });
  pass(channel.ours, {p.server});
  p.server.reset();
  send_all(p.client, "pingpong");
  EXPECT_EQ(recv_exact(p.client, 5), "ping!");
  std::vector<Fd> fds = taken(channel.ours);
  EXPECT_EQ(child.wait(), 0);
  ASSERT_EQ(fds.size(), 1U);
  EXPECT_EQ(recv_exact(fds[0], 4), "pong");
  expect_echo(fds[0], p.client, "back home");
}

TEST(InheritPassed, AndUsedByBothInTurns) {
  Channel channel;
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    p.server.reset();
    std::vector<Fd> fds = taken(channel.theirs);
    for (int i = 0; i < 5; ++i) {
      send_all(fds.at(0), recv_exact(fds[0], 2) + "c");
      send_all(channel.theirs, "t");
      recv_exact(channel.theirs, 1);
    }
    return 0;
  });
  send_all(p.client, "0011223344");
  send_all(p.client, "0011223344");
  pass(channel.ours, {p.server});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(recv_exact(channel.ours, 1), "t");
    send_all(p.server, recv_exact(p.server, 2) + "p");
    send_all(channel.ours, "t");
  }
  EXPECT_EQ(recv_exact(p.client, 30), "00c11p22c33p44c00p11c22p33c44p");
  EXPECT_EQ(child.wait(), 0);
}

struct Twice {
  bool first_bare;
  bool second_bare;
};

// The connection goes through two programs, of which each leaves something unread.
TEST(InheritTwice, ByExec) {
  for (const bool accepting : {false, true}) {
    for (const Twice how : {Twice{false, false}, Twice{false, true}, Twice{true, true}}) {
      Plan p;
      p.bare = how.first_bare;
      p.accepting = accepting;
      p.before = [](int fd) {
        if (recv_exact(fd, 1000) != pattern(1000)) _exit(97);
        send_all(fd, pattern(1000, 2));
        return std::size_t{0};
      };
      p.meanwhile = [](int peer) { send_all(peer, pattern(100'000)); };
      p.steps = {"recv:1:1000:1000", "send:2:1000:1000", how.second_bare ? "exec-bare" : "exec",
                 "recv:1:2000:98000", "send:2:2000:1000"};
      for (const std::string& step : talk_steps()) p.steps.push_back(step);
      Handover h(std::move(p));
      h.go();
      EXPECT_TRUE(recv_exact(h.peer, 3000) == pattern(3000, 2));
      talk(h.peer);
      EXPECT_EQ(h.wait(), 0);
    }
  }
}

TEST(InheritTwice, NamesStay) {
  for (const bool accepting : {false, true}) {
    Plan p;
    p.accepting = accepting;
    p.steps = {"names", "exec", "names", "options", "exec", "names", "options", "echo"};
    Handover h(std::move(p));
    h.go();
    expect_echo(h.peer, h.peer, "comes back");
    shutdown(h.peer, SHUT_WR);
    expect_eof(h.peer);
    EXPECT_EQ(h.wait(), 0);
  }
}

// Both ends get another program, one after the other or at once, with `unread` bytes both ways.
void both_ends(std::size_t unread, bool bare, bool at_once) {
  const std::string size = std::to_string(unread);
  const Steps connecting = {"recv:4:0:" + size, "send:3:" + size + ":5000",
                            "recv:4:" + size + ":5000", "shutdown"};
  Plan plan;
  plan.bare = bare;
  plan.accepting = true;
  plan.before = [unread](int fd) {
    send_all(fd, pattern(unread, 4));
    return std::size_t{0};
  };
  plan.steps = {"say", "recv:3:0:" + size, "send:4:" + size + ":5000", "recv:3:" + size + ":5000",
                "eof"};
  Channel start;
  std::unique_ptr<Child> child;  // has the connecting end, and becomes the other program
  plan.meanwhile = [&](int peer) {
    send_all(peer, pattern(unread, 3));
    child = std::make_unique<Child>([&, peer] {
      recv_exact(start.theirs, 1);
      Successor(Way::kExec, bare, peer, connecting);
      return 1;
    });
  };
  Handover h(std::move(plan));
  h.peer.reset();
  h.go();
  if (!at_once) h.hear();
  send_all(start.ours, "x");
  EXPECT_EQ(child->wait(), 0);
  EXPECT_EQ(h.wait(), 0);
}

class InheritBothEnds : public ::testing::TestWithParam<std::size_t> {};

TEST_P(InheritBothEnds, OneAfterTheOther) {
  for (const bool bare : {false, true}) both_ends(GetParam(), bare, false);
}

TEST_P(InheritBothEnds, AtOnce) {
  for (int i = 0; i < 8; ++i) both_ends(GetParam(), i % 2 == 0, true);
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritBothEnds, ::testing::Values(0, 10, 100'000));

// The connecting end is handed on before anybody has accepted the connection; the new program, or the
// exec itself, waits for that.
TEST(InheritUnaccepted, ByTheConnectingEnd) {
  for (const bool bare : {false, true}) {
    Plan p;
    p.bare = bare;
    p.connect_only = true;
    p.before = [](int fd) {
      send_all(fd, pattern(1000, 5));
      return std::size_t{0};
    };
    p.steps = {"say", "recv:1:0:5"};
    for (const std::string& step : talk_steps()) p.steps.push_back(step);
    Handover h(std::move(p));
    h.go();
    if (!h.heard(0)) await_asleep(h.pid());
    const Fd peer = accept_from(h.listener);
    EXPECT_TRUE(recv_exact(peer, 1000) == pattern(1000, 5));
    send_all(peer, pattern(5));
    talk(peer);
    EXPECT_EQ(h.wait(), 0);
  }
}

}  // namespace
}  // namespace shunt::test
