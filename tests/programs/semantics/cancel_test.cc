// pthread_cancel() of a thread that is blocked in a call on a socket, and what it leaves behind.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include <atomic>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "epoll_set.h"
#include "net.h"

namespace shunt::test {
namespace {

constexpr auto kToFallAsleep = std::chrono::milliseconds(40);

// A thread that can be cancelled. One that does not end is a failure that ends the program.
class Victim {
 public:
  explicit Victim(std::function<void()> body) : body_(std::move(body)) {
    if (pthread_create(&thread_, nullptr, &run, this) != 0) std::abort();
  }
  ~Victim() {
    if (!joined_) join();
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  void cancel() { EXPECT_EQ(pthread_cancel(thread_), 0); }
  void interrupt(int signal) { EXPECT_EQ(pthread_kill(thread_, signal), 0); }
  bool join() {  // true: it was cancelled
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += kWaitMs / 1000;
    void* result = nullptr;
    if (pthread_timedjoin_np(thread_, &result, &until) != 0) {
      std::puts("the thread does not end");
      std::fflush(nullptr);
      std::abort();
    }
    joined_ = true;
    return result == PTHREAD_CANCELED;
  }
  bool cancel_asleep() {
    std::this_thread::sleep_for(kToFallAsleep);
    cancel();
    return join();
  }
  int cleaned() const { return cleaned_; }  // how often the clean-up handlers ran

 private:
  struct Guard {
    Victim* victim;
    ~Guard() { ++victim->cleaned_; }
  };
  static void* run(void* self) {
    const Guard guard{static_cast<Victim*>(self)};
    guard.victim->body_();
    return nullptr;
  }

  std::function<void()> body_;
  pthread_t thread_{};
  std::atomic<int> cleaned_{0};
  bool joined_ = false;
};

// Another thread sleeps on the connection and is woken, bytes go both ways, and a close is seen.
void expect_usable(Pair& p) {
  {
    Later later([&] { send_all(p.client, "first"); });
    char bytes[5];
    EXPECT_EQ(recv(p.server, bytes, 5, MSG_WAITALL), 5) << std::strerror(errno);
    EXPECT_EQ(std::string(bytes, 5), "first");
  }
  expect_echo(p.client, p.server, pattern(3000, 2));
  expect_echo(p.server, p.client, pattern(300'000, 3));
  p.server.reset();
  expect_eof(p.client);
}

// Something has come, and is thrown away.
void expect_drained(int fd) {
  char bytes[64];
  EXPECT_GT(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), 0) << std::strerror(errno);
}

struct Sleep {
  const char* name;
  void (*call)(int fd);  // blocks until there is something to read
};
char g_sink[64];

const Sleep kSleeps[] = {
    {"Recv", [](int fd) { recv(fd, g_sink, sizeof g_sink, 0); }},
    {"RecvPeek", [](int fd) { recv(fd, g_sink, sizeof g_sink, MSG_PEEK); }},
    {"RecvWithTimeout",
     [](int fd) {
       set_timeout(fd, SO_RCVTIMEO, 30'000);
       recv(fd, g_sink, sizeof g_sink, 0);
       set_timeout(fd, SO_RCVTIMEO, 0);
     }},
    {"Recvfrom", [](int fd) { recvfrom(fd, g_sink, sizeof g_sink, 0, nullptr, nullptr); }},
    {"Read",
     [](int fd) {
       if (read(fd, g_sink, sizeof g_sink) < 0) std::perror("read");
     }},
    {"Readv",
     [](int fd) {
       const iovec part{g_sink, sizeof g_sink};
       if (readv(fd, &part, 1) < 0) std::perror("readv");
     }},
    {"Recvmsg",
     [](int fd) {
       iovec part{g_sink, sizeof g_sink};
       msghdr m{};
       m.msg_iov = &part;
       m.msg_iovlen = 1;
       recvmsg(fd, &m, 0);
     }},
    {"Recvmmsg",
     [](int fd) {
       iovec part{g_sink, sizeof g_sink};
       mmsghdr m{};
       m.msg_hdr.msg_iov = &part;
       m.msg_hdr.msg_iovlen = 1;
       recvmmsg(fd, &m, 1, 0, nullptr);
     }},
    {"Poll",
     [](int fd) {
       pollfd p{fd, POLLIN, 0};
       poll(&p, 1, -1);
     }},
    {"PollManyWithTimeout",
     [](int fd) {
       std::vector<pollfd> many(400, pollfd{fd, POLLIN, 0});
       poll(many.data(), many.size(), 30'000);
     }},
    {"Ppoll",
     [](int fd) {
       pollfd p{fd, POLLIN, 0};
       const timespec timeout{30, 0};
       ppoll(&p, 1, &timeout, nullptr);
     }},
    {"Select",
     [](int fd) {
       fd_set set;
       FD_ZERO(&set);
       FD_SET(fd, &set);
       select(fd + 1, &set, nullptr, nullptr, nullptr);
     }},
    {"Pselect",
     [](int fd) {
       fd_set set;
       FD_ZERO(&set);
       FD_SET(fd, &set);
       pselect(fd + 1, &set, nullptr, nullptr, nullptr, nullptr);
     }},
    {"EpollWait",
     [](int fd) {
       Epoll epoll;
       epoll.add(fd, EPOLLIN);
       epoll.wait(-1);
     }},
    {"EpollWaitEdge",
     [](int fd) {
       Epoll epoll;
       epoll.add(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
       epoll.wait(30'000);
     }},
    {"Splice",
     [](int fd) {
       int pipes[2];
       if (pipe2(pipes, O_CLOEXEC) != 0) std::abort();
       const Fd in(pipes[0]);
       const Fd out(pipes[1]);
       splice(fd, nullptr, out, nullptr, 64, 0);
     }},
};

class CancelSleep : public testing::TestWithParam<Sleep> {};

TEST_P(CancelSleep, EndsTheThreadAndNothingElse) {
  Pair p = connected_pair();
  Victim victim([&] { GetParam().call(p.server); });
  EXPECT_TRUE(victim.cancel_asleep());
  EXPECT_EQ(victim.cleaned(), 1);
  expect_usable(p);
}

TEST_P(CancelSleep, OneOfTwoSleepers) {
  Pair p = connected_pair();
  std::atomic<bool> woken{false};
  Victim other([&] {
    GetParam().call(p.server);
    woken = true;
  });
  Victim victim([&] { GetParam().call(p.server); });
  EXPECT_TRUE(victim.cancel_asleep());
  EXPECT_FALSE(woken);
  send_all(p.client, "x");
  EXPECT_FALSE(other.join());
  EXPECT_TRUE(woken);
}

TEST_P(CancelSleep, PendingBeforeTheCall) {
  Pair p = connected_pair();
  std::atomic<bool> requested{false};
  Victim victim([&] {
    while (!requested) std::this_thread::yield();
    GetParam().call(p.server);
  });
  // Nothing in the thread was a cancellation point so far: yield() is none.
  victim.cancel();
  requested = true;
  EXPECT_TRUE(victim.join());
  expect_usable(p);
}

TEST_P(CancelSleep, DisabledIsHonoured) {
  Pair p = connected_pair();
  std::atomic<bool> returned{false};
  Victim victim([&] {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    GetParam().call(p.server);
    returned = true;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
    pthread_testcancel();
    ADD_FAILURE() << "the cancellation was forgotten";
  });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.cancel();
  std::this_thread::sleep_for(kToFallAsleep);
  EXPECT_FALSE(returned);
  send_all(p.client, "x");
  EXPECT_TRUE(victim.join());
  EXPECT_TRUE(returned);
}

INSTANTIATE_TEST_SUITE_P(Cancel, CancelSleep, testing::ValuesIn(kSleeps),
                         [](const auto& each) { return std::string(each.param.name); });

// The type that the program sees is what it was, also after a call that has slept.
TEST(Cancel, TypeIsTheProgramsOwn) {
  Pair p = connected_pair();
  Later later([&] { send_all(p.client, "x"); });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 1);
  int type = -1;
  EXPECT_EQ(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type), 0);
  EXPECT_EQ(type, PTHREAD_CANCEL_DEFERRED);
}

void send_for_ever(int fd) {
  const std::string block = pattern(1 << 16);
  while (send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
}

TEST(Cancel, SendWithAFullBuffer) {
  Pair p = connected_pair();
  Victim victim([&] { send_for_ever(p.client); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(victim.cancel_asleep());
  while (wait_for(p.server, POLLIN, 100) != 0) {
    char block[1 << 16];
    ASSERT_GT(recv(p.server, block, sizeof block, MSG_DONTWAIT), 0);
  }
  std::swap(p.client, p.server);
  expect_usable(p);
}

// Another thread goes on sending into the same full buffer, and is woken by room.
TEST(Cancel, OneOfTwoSenders) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  const std::string block = pattern(1 << 20);
  Victim other([&] { send_all(p.client, block); });
  Victim victim([&] { send_for_ever(p.client); });
  EXPECT_TRUE(victim.cancel_asleep());
  std::thread reader([&] { recv_to_eof(p.server); });
  EXPECT_FALSE(other.join());
  p.client.reset();
  reader.join();
}

TEST(Cancel, WaitForRoom) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  Victim victim([&] { wait_for(p.client, POLLOUT, -1); });
  EXPECT_TRUE(victim.cancel_asleep());
  Later later([&] {
    while (wait_for(p.server, POLLIN, 50) != 0) {
      char block[1 << 16];
      if (recv(p.server, block, sizeof block, MSG_DONTWAIT) <= 0) break;
    }
  });
  EXPECT_EQ(wait_for(p.client, POLLOUT), POLLOUT);
}

void accept_one(int fd) { Fd(accept(fd, nullptr, nullptr)).reset(); }
void accept4_one(int fd) { Fd(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)).reset(); }
void poll_one(int fd) { wait_for(fd, POLLIN, -1); }

TEST(Cancel, Accept) {
  for (void (*call)(int) : {accept_one, accept4_one, poll_one}) {
    Fd listener = listen_on();
    const std::uint16_t port = port_of(listener);
    Victim victim([&] { call(listener); });
    EXPECT_TRUE(victim.cancel_asleep());
    EXPECT_EQ(victim.cleaned(), 1);
    // It still takes connections, also for a thread that has to wait for one.
    Pair p;
    {
      Later later([&] { p.client = connect_to("127.0.0.1", port); });
      p.server = accept_from(listener);
    }
    expect_usable(p);
    listener.reset();
    Address address("127.0.0.1", port);
    Fd late = tcp_socket();
    expect_error(connect(late, address.get(), address.length), ECONNREFUSED, "closed listener");
  }
}

TEST(Cancel, AcceptDisabled) {
  Fd listener = listen_on();
  std::atomic<bool> accepted{false};
  Victim victim([&] {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    Fd fd = accept_from(listener);
    accepted = fd >= 0;
  });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.cancel();
  std::this_thread::sleep_for(kToFallAsleep);
  EXPECT_FALSE(accepted);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_FALSE(victim.join());
  EXPECT_TRUE(accepted);
}

TEST(Cancel, ConnectToAFullBacklog) {
  Fd listener = listen_on("127.0.0.1", 1);
  const std::uint16_t port = port_of(listener);
  std::vector<Fd> clients(1000);
  std::atomic<int> count{0};
  Victim victim([&] {
    Address address("127.0.0.1", port);
    for (Fd& fd : clients) {
      fd = tcp_socket(AF_INET, SOCK_CLOEXEC);
      if (connect(fd, address.get(), address.length) != 0) return;
      ++count;
    }
  });
  // Until connect() has made no progress for a while.
  for (int before = -1; before != count;) {
    before = count;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ASSERT_LT(count, 1000);
  EXPECT_TRUE(victim.cancel_asleep());
  // The cancelled thread's socket is still good for close(), and the listener for its clients.
  Fd& last = clients[static_cast<std::size_t>(count.load())];
  EXPECT_GE(last, 0);
  last.reset();
  Fd server = accept_from(listener);
  expect_echo(clients[0], server, "in time");
}

// What the cancelled thread did not get, the next reader gets.
TEST(Cancel, WhileDataArrives) {
  Pair p = connected_pair();
  const std::string data = pattern(400'000, 5);
  std::thread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 100) {
      send_all(p.client, data.substr(at, 100));
      if (at % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    p.client.reset();
  });
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
  std::thread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 100) {
      send_all(p.client, data.substr(at, 100));
      if (at % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    p.client.reset();
  });
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
    Victim victim([&] { kSleeps[0].call(outer.server); });
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
      if (sigsetjmp(g_way_out, 1) == 0) kSleeps[0].call(p.server);
      int type = -1;
      pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
      if (under_shunt()) {  // libc 2.36 leaves its own type behind
        EXPECT_EQ(type, PTHREAD_CANCEL_DEFERRED);
      }
      kSleeps[0].call(p.server);
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
  Victim victim([&] { kSleeps[0].call(p.server); });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.interrupt(SIGUSR1);
  EXPECT_FALSE(victim.join());
  EXPECT_EQ(victim.cleaned(), 1);
  expect_usable(p);
}

// A child that is forked while another thread sleeps has a connection without that sleeper.
TEST(Cancel, AfterAForkDuringTheSleep) {
  Pair p = connected_pair();
  Victim victim([&] { kSleeps[0].call(p.server); });
  std::this_thread::sleep_for(kToFallAsleep);
  Child child([&] {
    p.client.reset();
    Victim inner([&] { kSleeps[0].call(p.server); });
    return inner.cancel_asleep() ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(victim.cancel_asleep());
  expect_usable(p);
}

}  // namespace
}  // namespace shunt::test
