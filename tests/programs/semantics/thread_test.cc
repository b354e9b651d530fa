// Several threads on one socket, and signals that interrupt or re-enter calls.
#include <gtest/gtest.h>
#include <sys/time.h>

#include <atomic>

#include "net.h"

namespace shunt::test {
namespace {

std::atomic<int> g_signals{0};
void count_signal(int) { g_signals.fetch_add(1); }

class Later {
 public:
  explicit Later(std::function<void()> action)
      : thread_([action = std::move(action)] {
          std::this_thread::sleep_for(std::chrono::milliseconds(40));
          action();
        }) {}
  ~Later() { thread_.join(); }

 private:
  std::thread thread_;
};

// Keeps all signals of interest away from helper threads, so that they hit the test's thread.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, &old_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }

 private:
  sigset_t old_;
};

TEST(Threads, TwoWriters) {
  Pair p = connected_pair();
  constexpr int kLines = 20'000;
  auto write_lines = [&](char c) {
    const std::string line(32, c);
    for (int i = 0; i < kLines; ++i) send_all(p.client, line);
  };
  std::thread a(write_lines, 'a');
  std::thread b(write_lines, 'b');
  int count[2] = {0, 0};
  for (int i = 0; i < 2 * kLines; ++i) {
    const std::string line = recv_exact(p.server, 32);
    ASSERT_TRUE(line == std::string(32, line[0])) << "a write was torn: " << line;
    ++count[line[0] == 'b'];
  }
  a.join();
  b.join();
  EXPECT_EQ(count[0], kLines);
  EXPECT_EQ(count[1], kLines);
}

TEST(Threads, TwoReaders) {
  Pair p = connected_pair();
  std::atomic<std::size_t> bytes{0};
  std::atomic<std::uint64_t> sum{0};
  auto read_all = [&] {
    unsigned char block[777];
    for (;;) {
      const ssize_t n = recv(p.server, block, sizeof block, 0);
      if (n <= 0) return;
      bytes += static_cast<std::size_t>(n);
      for (ssize_t i = 0; i < n; ++i) sum += block[i];
    }
  };
  std::thread a(read_all);
  std::thread b(read_all);
  const std::string data = pattern(2 << 20, 21);
  std::uint64_t expected = 0;
  for (char c : data) expected += static_cast<unsigned char>(c);
  send_all(p.client, data);
  p.client.reset();
  a.join();
  b.join();
  EXPECT_EQ(bytes, data.size());
  EXPECT_EQ(sum, expected);
}

TEST(Threads, ReadAndWriteAtOnce) {
  Pair p = connected_pair();
  const std::string there = pattern(8 << 20, 22);
  const std::string back = pattern(8 << 20, 23);
  std::thread w1([&] { send_all(p.client, there); });
  std::thread w2([&] { send_all(p.server, back); });
  std::string got_back;
  std::thread r1([&] { got_back = recv_exact(p.client, back.size()); });
  EXPECT_TRUE(recv_exact(p.server, there.size()) == there);
  w1.join();
  w2.join();
  r1.join();
  EXPECT_TRUE(got_back == back);
}

TEST(Threads, EveryWaiterSeesTheEnd) {
  Pair p = connected_pair();
  std::atomic<int> ended{0};
  auto wait_for_end = [&] {
    char byte;
    if (recv(p.server, &byte, 1, 0) == 0) ++ended;
  };
  std::thread a(wait_for_end);
  std::thread b(wait_for_end);
  std::thread c([&] {
    if ((wait_for(p.server, POLLIN) & POLLIN) != 0) ++ended;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(40));
  shutdown(p.client, SHUT_WR);
  a.join();
  b.join();
  c.join();
  EXPECT_EQ(ended, 3);
}

TEST(Threads, OneReadsOnePolls) {
  Pair p = connected_pair();
  std::string got;
  std::thread reader([&] {
    char c;
    while (recv(p.server, &c, 1, 0) == 1) got += c;
  });
  for (int i = 0; i < 200; ++i) {
    send_all(p.client, "x");
    wait_for(p.server, POLLIN, 1);
  }
  p.client.reset();
  reader.join();
  EXPECT_EQ(got.size(), 200U);
}

// close() by another thread does not wake a reader on Linux; the connection lives until the call ends.
TEST(Threads, CloseDoesNotWakeAReader) {
  Pair p = connected_pair();
  std::string got(5, '\0');
  const int number = p.server;
  std::thread reader([&] {
    const ssize_t n = recv(number, got.data(), 5, 0);
    got.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(40));
  p.server.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(send(p.client, "taken", 5, MSG_NOSIGNAL), 5);
  reader.join();
  EXPECT_EQ(got, "taken");
}

TEST(Threads, ConnectionsInParallel) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  constexpr int kEach = 100;
  std::thread server([&] {
    for (int i = 0; i < 2 * kEach; ++i) {
      Fd fd = accept_from(listener);
      send_all(fd, recv_exact(fd, 8));
    }
  });
  auto work = [&](std::uint64_t seed) {
    for (int i = 0; i < kEach; ++i) {
      Fd fd = connect_to("127.0.0.1", port);
      const std::string data = pattern(8, seed + static_cast<std::uint64_t>(i));
      send_all(fd, data);
      EXPECT_EQ(recv_exact(fd, 8), data);
    }
  };
  std::thread a(work, 1000);
  std::thread b(work, 2000);
  a.join();
  b.join();
  server.join();
}

TEST(Signals, InterruptRead) {
  SignalHandler handler(SIGUSR1, count_signal, 0);
  Pair p = connected_pair();
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Signals, RestartRead) {
  SignalHandler handler(SIGUSR1, count_signal, SA_RESTART);
  g_signals = 0;
  Pair p = connected_pair();
  const pthread_t self = pthread_self();
  Later later([&] {
    pthread_kill(self, SIGUSR1);
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    send_all(p.client, "x");
  });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 1);
  EXPECT_EQ(g_signals, 1);
}

// With a receive timeout even SA_RESTART gives EINTR (signal(7)).
TEST(Signals, TimeoutMeansNoRestart) {
  SignalHandler handler(SIGUSR1, count_signal, SA_RESTART);
  Pair p = connected_pair();
  set_timeout(p.server, SO_RCVTIMEO, 3000);
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Signals, InterruptWrite) {
  SignalHandler handler(SIGUSR1, count_signal, 0);
  Pair p = connected_pair();
  std::size_t taken = fill(p.client);
  const pthread_t self = pthread_self();
  ssize_t n = 0;
  {
    Later later([&] { pthread_kill(self, SIGUSR1); });
    const std::string block = pattern(1 << 20);
    n = send(p.client, block.data(), block.size(), 0);
    if (n > 0) {  // some room after all: the signal then ends the call with a count
      taken += static_cast<std::size_t>(n);
      EXPECT_LT(n, static_cast<ssize_t>(block.size()));
    } else {
      EXPECT_EQ(errno, EINTR);
    }
  }
  drain(p.server, taken);
}

TEST(Signals, InterruptAccept) {
  SignalHandler handler(SIGUSR1, count_signal, 0);
  Fd listener = listen_on();
  const pthread_t self = pthread_self();
  Later later([&] { pthread_kill(self, SIGUSR1); });
  EXPECT_EQ(accept(listener, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST(Signals, RestartAccept) {
  SignalHandler handler(SIGUSR1, count_signal, SA_RESTART);
  Fd listener = listen_on();
  const pthread_t self = pthread_self();
  Fd client;
  Later later([&] {
    pthread_kill(self, SIGUSR1);
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    client = connect_to("127.0.0.1", port_of(listener));
  });
  Fd server(accept(listener, nullptr, nullptr));
  EXPECT_GE(server, 0);
}

// A handler that writes to the very socket that the interrupted code writes to.
int g_handler_socket = -1;
std::atomic<int> g_handler_writes{0};
void write_a_line(int) {
  const int saved = errno;
  char line[16];
  memset(line, 'h', sizeof line);
  if (send(g_handler_socket, line, sizeof line, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof line)
    g_handler_writes.fetch_add(1);
  errno = saved;
}

TEST(Signals, HandlerWritesToTheSameSocket) {
  Pair p = connected_pair();
  g_handler_socket = p.client;
  g_handler_writes = 0;
  std::size_t total = 0;
  std::thread reader;
  {
    BlockSignals block;  // inherited by the reader
    reader = std::thread([&] {
      std::string data(65536, '\0');
      for (;;) {
        const ssize_t n = recv(p.server, data.data(), data.size(), 0);
        if (n <= 0) return;
        total += static_cast<std::size_t>(n);
      }
    });
  }
  SignalHandler handler(SIGALRM, write_a_line, SA_RESTART);
  const itimerval often{{0, 300}, {0, 300}};
  setitimer(ITIMER_REAL, &often, nullptr);
  const std::string line(16, 'm');
  Stopwatch watch;
  std::size_t lines = 0;
  while (watch.ms() < 500) {
    ASSERT_EQ(send(p.client, line.data(), line.size(), 0), 16);
    ++lines;
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  p.client.reset();
  reader.join();
  EXPECT_EQ(total, (lines + static_cast<std::size_t>(g_handler_writes.load())) * 16);
  EXPECT_GT(g_handler_writes, 10);
}

TEST(Signals, HandlerReadsDuringRead) {
  static int server = -1;
  static std::atomic<int> read_in_handler{0};
  Pair p = connected_pair();
  server = p.server;
  read_in_handler = 0;
  SignalHandler handler(
      SIGUSR1,
      [](int) {
        const int saved = errno;
        char c;
        if (recv(server, &c, 1, MSG_DONTWAIT) == 1) read_in_handler.fetch_add(1);
        errno = saved;
      },
      SA_RESTART);
  const pthread_t self = pthread_self();
  Later later([&] {
    pthread_kill(self, SIGUSR1);  // nothing there: the handler must not block
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    send_all(p.client, "z");
  });
  char byte = 0;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'z');
  EXPECT_EQ(read_in_handler, 0);
}

}  // namespace
}  // namespace shunt::test
