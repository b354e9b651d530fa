// Connections that leak to another program while their owner is busy with them, and leaks by every way.
#include <gtest/gtest.h>

#include <cstdlib>

#include "epoll_set.h"
#include "inherit_leak.h"

namespace shunt::test {
namespace {

class InheritBusy : public InheritLeak {};

TEST_P(InheritBusy, ThreadsSleepInRecv) {
  both_ways([](int from, int to) {
    std::string got;
    {
      Sleeper reader([&] { got = recv_exact(to, 100'000); });
      ASSERT_EQ(run_true(), 0);
      send_all(from, pattern(100'000));
    }
    EXPECT_TRUE(got == pattern(100'000));
  });
}

TEST_P(InheritBusy, ThreadSleepsInPlainRecv) {
  both_ways([](int from, int to) {
    char byte = 0;
    {
      Sleeper reader([&] { EXPECT_EQ(recv(to, &byte, 1, 0), 1); });
      ASSERT_EQ(run_true(), 0);
      send_all(from, "a");
    }
    EXPECT_EQ(byte, 'a');
    expect_echo(to, from, "and back");
  });
}

TEST_P(InheritBusy, ThreadSleepsInSend) {
  both_ways([](int from, int to) {
    const std::size_t filled = fill_with_pattern(from);
    {
      Sleeper sender([&] { send_all(from, pattern(1 << 20, 1, filled)); });
      ASSERT_EQ(run_true(), 0);
      EXPECT_TRUE(recv_exact(to, filled + (1 << 20)) == pattern(filled + (1 << 20)));
    }
    expect_echo(from, to, "in order");
  });
}

TEST_P(InheritBusy, ThreadSleepsInEpollAndPoll) {
  both_ways([](int from, int to) {
    for (const std::uint32_t trigger : {std::uint32_t{0}, std::uint32_t{EPOLLET}}) {
      Epoll ep;
      ep.add(to, EPOLLIN | trigger);
      std::uint32_t epoll_events = 0;
      short poll_events = 0;
      {
        Sleeper first([&] { epoll_events = ep.wait(10'000); });
        Sleeper second([&] { poll_events = wait_for(to, POLLIN, 10'000); });
        ASSERT_EQ(run_true(), 0);
        send_all(from, "x");
      }
      EXPECT_EQ(epoll_events, EPOLLIN);
      EXPECT_EQ(poll_events, POLLIN);
      EXPECT_EQ(recv_exact(to, 1), "x");
    }
  });
}

// Streams in both directions at once, of which the first leak cuts through the middle.
TEST_P(InheritBusy, StreamsGoOn) {
  constexpr std::size_t kBytes = 16 << 20;
  const std::string data = pattern(kBytes);
  std::vector<std::thread> threads;
  std::vector<std::string> got(2);
  std::atomic<int> halfway{0};
  both_ways([&](int from, int to) {
    std::string& mine = got[from == pair.client ? 0 : 1];
    threads.emplace_back([&, from] { send_all(from, data); });
    threads.emplace_back([&, to] {
      mine = recv_exact(to, kBytes / 2);
      ++halfway;
      mine += recv_exact(to, kBytes / 2);
    });
  });
  while (halfway == 0) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run_true(), 0);
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(got[0] == data);
  EXPECT_TRUE(got[1] == data);
}

INSTANTIATE_TEST_SUITE_P(Inherit, InheritBusy,
                         ::testing::Values(Leaks::kConnecting, Leaks::kAccepting, Leaks::kBoth),
                         leaks_name);

// ---- every way to leak ----

// With vfork() the child borrows this function's frame, so it must be called right here.
void leak_by_exec(bool by_vfork) {
  char name[] = "/bin/true";
  char* argv[] = {name, nullptr};
  const pid_t pid = by_vfork ? vfork() : fork();
  if (pid == 0) {
    execve(name, argv, environ);
    _exit(127);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

void expect_alive(const Pair& p) {
  expect_echo(p.client, p.server, pattern(50'000));
  expect_echo(p.server, p.client, pattern(50'000));
}

void leaky(const std::function<void()>& leak) {
  for (const bool client : {false, true}) {
    Pair p = connected_pair();
    set_cloexec(p.client, !client);
    set_cloexec(p.server, client);
    send_all(p.client, "be");
    send_all(p.server, "be");
    leak();
    send_all(p.client, "fore");
    send_all(p.server, "fore");
    EXPECT_EQ(recv_exact(p.client, 6), "before");
    EXPECT_EQ(recv_exact(p.server, 6), "before");
    expect_alive(p);
    leak();
    expect_alive(p);
  }
}

TEST(InheritLeaks, ByFork) {
  leaky([] { leak_by_exec(false); });
}
TEST(InheritLeaks, ByVfork) {
  leaky([] { leak_by_exec(true); });
}
TEST(InheritLeaks, BySystem) {
  leaky([] { EXPECT_EQ(std::system("true"), 0); });
}
TEST(InheritLeaks, ByPopenForReading) {
  leaky([] {
    FILE* program = popen("echo text", "r");
    char line[16] = {};
    EXPECT_NE(std::fgets(line, sizeof line, program), nullptr);
    EXPECT_STREQ(line, "text\n");
    EXPECT_EQ(pclose(program), 0);
  });
}
TEST(InheritLeaks, ByPopenForWriting) {
  leaky([] {
    FILE* program = popen("cat >/dev/null", "w");
    std::fputs("text", program);
    EXPECT_EQ(pclose(program), 0);
  });
}
TEST(InheritLeaks, ByExecOfAnotherThread) {
  leaky([] { std::thread([] { EXPECT_EQ(run_true(), 0); }).join(); });
}

// An exec that fails leaves the program running, and its connections with it.
TEST(InheritLeaks, ByExecThatFails) {
  leaky([] {
    char name[] = "/nonexistent/program";
    char* argv[] = {name, nullptr};
    expect_error(execve(name, argv, environ), ENOENT);
    expect_error(execvp(name, argv), ENOENT);
    expect_error(execl(name, name, nullptr), ENOENT);
    pid_t pid;
    EXPECT_EQ(posix_spawn(&pid, name, nullptr, nullptr, argv, environ), ENOENT);
  });
}

TEST(InheritLeaks, OfManyConnections) {
  std::vector<Pair> pairs;
  for (int i = 0; i < 60; ++i) {
    pairs.push_back(connected_pair());
    set_cloexec(pairs.back().client, i % 3 == 0);
    set_cloexec(pairs.back().server, i % 3 == 1);
    send_all(pairs.back().client, std::to_string(100 + i));
  }
  ASSERT_EQ(run_true(), 0);
  for (int i = 0; i < 60; ++i) {
    const Pair& p = pairs[static_cast<std::size_t>(i)];
    EXPECT_EQ(recv_exact(p.server, 3), std::to_string(100 + i));
    expect_alive(p);
  }
}

TEST(InheritLeaks, OfWhatIsCloseOnExecNothing) {
  Pair p = connected_pair();
  set_cloexec(p.client, true);
  set_cloexec(p.server, true);
  ASSERT_EQ(run_true(), 0);
  expect_alive(p);
  p.server.reset();
  expect_eof(p.client);
}

// Connected, but the listener has not accepted it when the program starts another one.
TEST(InheritLeaks, BeforeTheAccept) {
  Fd listener = listen_on();
  Fd client = connect_to("127.0.0.1", port_of(listener));
  set_cloexec(client, false);
  send_all(client, "early");
  ASSERT_EQ(run_true(), 0);
  Pair p{std::move(client), accept_from(listener)};
  EXPECT_EQ(recv_exact(p.server, 5), "early");
  expect_alive(p);
}

}  // namespace
}  // namespace shunt::test
