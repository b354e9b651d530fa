// pthread_cancel() at the moment in which something arrives, and around signal handlers.
#include <csetjmp>

#include "epoll_set.h"
#include "victim.h"

namespace shunt::test {
namespace {

void recv_some(int fd) {
  char bytes[64];
  recv(fd, bytes, sizeof bytes, 0);
}

// Sends `data` in small pieces, with pauses in which the reader falls asleep, and closes.
void trickle(Pair& p, const std::string& data) {
  for (std::size_t at = 0; at < data.size(); at += 100) {
    send_all(p.client, data.substr(at, 100));
    if (at % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  p.client.reset();
}

// What the cancelled thread did not get, the next reader gets.
TEST(Cancel, WhileDataArrives) {
  Pair p = connected_pair();
  const std::string data = pattern(400'000, 5);
  std::thread sender([&] { trickle(p, data); });
  std::string got;
  int cancelled = 0;
  for (bool ended = false; !ended;) {
    Victim victim([&] {
      for (;;) {
        wait_for(p.server, POLLIN, -1);
        int former;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &former);
        char bytes[1000];
        const ssize_t n = recv(p.server, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0) got.append(bytes, static_cast<std::size_t>(n));
        if (n == 0) ended = true;
        pthread_setcancelstate(former, nullptr);
        if (n == 0) return;
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(37 * (cancelled % 17)));
    victim.cancel();
    cancelled += victim.join();
  }
  sender.join();
  EXPECT_GT(cancelled, 0);
  EXPECT_TRUE(got == data) << got.size();
}

// The same with recv() itself as the cancellation point. libc before 2.41 may lose what recv() has
// just taken out of a kernel socket (its bug 12683), so natively only the end is waited for.
TEST(Cancel, RecvWhileDataArrives) {
  Pair p = connected_pair();
  const std::string data = pattern(400'000, 6);
  std::thread sender([&] { trickle(p, data); });
  std::string got;
  got.reserve(data.size());
  std::atomic<bool> ended{false};
  for (int round = 0; !ended; ++round) {
    Victim victim([&] {
      char bytes[1000];
      for (;;) {
        const ssize_t n = recv(p.server, bytes, sizeof bytes, 0);
        if (n <= 0) break;
        got.append(bytes, static_cast<std::size_t>(n));
      }
      ended = true;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(37 * (round % 17)));
    victim.cancel();
    victim.join();
  }
  sender.join();
  if (under_shunt()) {
    EXPECT_TRUE(got == data) << got.size();
  }
}

// Two threads wait on one epoll set. If the cancelled one was not told of what came, the other is.
TEST(Cancel, OneOfTwoInAnEpollSet) {
  Pair p = connected_pair();
  Epoll epoll;
  epoll.add(p.server, EPOLLIN);
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> told{false};
    Victim other([&] { told = epoll.wait() == EPOLLIN; });
    Victim victim([&] { epoll.wait(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    std::thread sender([&] { send_all(p.client, "x"); });
    victim.cancel();
    const bool cancelled = victim.join();
    sender.join();
    if (!cancelled) other.cancel();
    other.join();
    EXPECT_TRUE(!cancelled || told);
    expect_drained(p.server);
    if (HasFailure()) return;
  }
}

int g_handler_fd = -1;
void recv_in_handler(int) {
  char byte;
  recv(g_handler_fd, &byte, 1, 0);
}

// A handler interrupts recv() on one socket and sleeps in recv() on another one.
TEST(Cancel, InAHandlerThatInterruptedASleep) {
  for (const int flags : {0, SA_RESTART}) {
    SignalHandler handler(SIGUSR1, recv_in_handler, flags);
    Pair outer = connected_pair();
    Pair inner = connected_pair();
    g_handler_fd = inner.server;
    Victim victim([&] { recv_some(outer.server); });
    std::this_thread::sleep_for(kToFallAsleep);
    victim.interrupt(SIGUSR1);
    EXPECT_TRUE(victim.cancel_asleep());
    expect_usable(outer);
    expect_usable(inner);
  }
}

sigjmp_buf g_way_out;
void jump_out(int) { siglongjmp(g_way_out, 1); }

// The old way of giving recv() a time limit: a handler that does not return to it.
TEST(Cancel, JumpOutOfASleep) {
  SignalHandler handler(SIGUSR1, jump_out, 0);
  Pair p = connected_pair();
  {
    Victim victim([&] {
      if (sigsetjmp(g_way_out, 1) == 0) recv_some(p.server);
      int type = -1;
      pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
      if (under_shunt()) {  // libc 2.36 leaves its own type behind
        EXPECT_EQ(type, PTHREAD_CANCEL_DEFERRED);
      }
      recv_some(p.server);
    });
    std::this_thread::sleep_for(kToFallAsleep);
    victim.interrupt(SIGUSR1);
    EXPECT_TRUE(victim.cancel_asleep());
    EXPECT_EQ(victim.cleaned(), 1);
  }
  expect_usable(p);
}

void leave_thread(int) { pthread_exit(nullptr); }

TEST(Cancel, ThreadEndsInAHandler) {
  SignalHandler handler(SIGUSR1, leave_thread, 0);
  Pair p = connected_pair();
  Victim victim([&] { recv_some(p.server); });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.interrupt(SIGUSR1);
  EXPECT_FALSE(victim.join());
  EXPECT_EQ(victim.cleaned(), 1);
  expect_usable(p);
}

// A child that is forked while another thread sleeps has a connection without that sleeper.
TEST(Cancel, AfterAForkDuringTheSleep) {
  Pair p = connected_pair();
  Victim victim([&] { recv_some(p.server); });
  std::this_thread::sleep_for(kToFallAsleep);
  Child child([&] {
    p.client.reset();
    Victim inner([&] { recv_some(p.server); });
    return inner.cancel_asleep() ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(victim.cancel_asleep());
  expect_usable(p);
}

}  // namespace
}  // namespace shunt::test
