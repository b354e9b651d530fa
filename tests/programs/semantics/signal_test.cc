// Signals that interrupt calls, and handlers that use the same socket.
#include <gtest/gtest.h>
#include <sys/time.h>

#include <atomic>

#include "net.h"

namespace shunt::test {
namespace {

std::atomic<int> g_signals{0};
void count_signal(int) { g_signals.fetch_add(1); }

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
