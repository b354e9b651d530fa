// Small helpers for the socket semantics tests: descriptors, connected pairs, children, time.
//
// Everything here goes through the plain libc calls, so that under Shunt the helpers themselves
// exercise the provider. Failures of the helpers end the test with an exception (a test bug or a
// broken environment), failures of the behaviour under test are gtest expectations.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/pattern.h"

namespace shunt::test {

inline constexpr int kWaitMs = 5000;  // how long anything that must happen may take

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  operator int() const { return fd_; }  // NOLINT(google-explicit-constructor)
  void reset() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Any of the two families' addresses, with the casts in one place.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  Address() = default;
  Address(const char* ip, std::uint16_t port);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  std::uint16_t port() const;
  std::string text() const;  // "127.0.0.1:7", "[::1]:7"
};

Address local_address(int fd);
Address peer_address(int fd);

Fd tcp_socket(int family = AF_INET, int flags = 0);
Fd listen_on(const char* ip = "127.0.0.1", int backlog = 128);
std::uint16_t port_of(int fd);
Fd connect_to(const char* ip, std::uint16_t port);
Fd accept_from(int listener);

struct Pair {
  Fd client;
  Fd server;
};
Pair connected_pair(const char* ip = "127.0.0.1");

// SCM_RIGHTS, at most 4 descriptors in one message with `text`; those taken are close-on-exec.
void pass(int channel, const std::vector<int>& fds, const std::string& text = "x");
std::vector<Fd> taken(int channel);

void set_nonblocking(int fd, bool on = true);
void set_timeout(int fd, int option, int ms);  // SO_RCVTIMEO, SO_SNDTIMEO

// poll() for one descriptor; 0 on timeout.
short wait_for(int fd, short events, int timeout_ms = kWaitMs);

void send_all(int fd, const std::string& data);
std::string recv_exact(int fd, std::size_t size);  // shorter at EOF
std::string recv_to_eof(int fd);
void expect_eof(int fd);
void expect_echo(int from, int to, const std::string& data);  // from sends, to receives

// Writes to a non-blocking socket until EAGAIN; returns the number of bytes taken.
std::size_t fill(int fd);
// Reads `size` bytes in the blocking or non-blocking way and throws them away.
void drain(int fd, std::size_t size);

// A forked child: runs `body`, exits with its result (0: success). Killed by the destructor, by the
// death of the parent and by a time limit.
class Child {
 public:
  explicit Child(const std::function<int()>& body);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }
  void kill();  // SIGKILL and reap
  int wait();   // exit status; 128 + signal when killed

 private:
  pid_t pid_ = -1;
};

// A started program with one pipe to its stdin and one from its stdout; without the provider when
// `ordinary`.
class Program {
 public:
  Program(const std::vector<std::string>& arguments, bool ordinary);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  std::string read_line();
  int wait();

 private:
  pid_t pid_ = -1;
  Fd output_;
};

class Stopwatch {
 public:
  long ms() const {
    return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::steady_clock::now() - start_)
                                 .count());
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Installs a handler for the lifetime of the object.
class SignalHandler {
 public:
  SignalHandler(int signal, void (*handler)(int), int flags);
  ~SignalHandler();
  SignalHandler(const SignalHandler&) = delete;
  SignalHandler& operator=(const SignalHandler&) = delete;

 private:
  int signal_;
  struct sigaction old_ {};
};

// Runs `action` a little later on another thread; joined by the destructor.
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

// Checks that a call has failed with `error`; reads errno, so nothing may come in between.
void expect_error(ssize_t result, int error, const char* what = "");
int so_error(int fd);     // SO_ERROR, which reading clears
std::string self_path();  // of this binary

// Whether the provider is loaded in this process.
bool under_shunt();

// The entry of the helper programs (`--helper=NAME` re-executes this binary); see helpers.cc.
int run_helper(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace shunt::test
