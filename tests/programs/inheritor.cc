// A program that carries on with a connection which another program opened: it does the steps of its
// command line in turn, by plain blocking calls.
//
//   inheritor CONNECTION STEP...
//
// CONNECTION: a descriptor's number; IN,OUT when it is at two; take:N receives it over AF_UNIX socket N.
//
//   recv:SEED:FROM:SIZE     reads that part of pattern SEED, no byte more
//   recv-eof:SEED:FROM      reads pattern SEED from there to the end of stream; sends the total, 16 digits
//   send:SEED:FROM:SIZE     writes that part of pattern SEED
//   echo                    sends everything back until the end of stream, then ends its half
//   eof | reset             the stream must have ended | been reset
//   quiet                   nothing must be there to read
//   pipe                    writing must fail with EPIPE
//   shutdown | close        ends the own half | closes all of the connection
//   say:N | await:N         writes | reads one byte of pipe N
//   names=LOCAL,REMOTE      what getsockname and getpeername must say
//   options                 it must look and behave like a TCP socket
//   blocking | nonblocking  what F_GETFL must say
//   exec | exec-bare        starts itself for the steps that follow; -bare: in an empty environment
//   pause                   until killed
//
// Exit status: 0, or 10 + the number of the step that failed (why, on stderr).
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/names.h"
#include "common/pattern.h"

namespace shunt::test {
namespace {

constexpr unsigned kSeconds = 20;

int g_in = -1;
int g_out = -1;

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }
[[noreturn]] void fail_errno(const std::string& what) { fail(what + ": " + strerror(errno)); }
void require(bool what, const char* why) {
  if (!what) fail(why);
}

// One read; waits first where the descriptor is non-blocking.
std::size_t read_some(char* data, std::size_t size) {
  for (;;) {
    const ssize_t n = read(g_in, data, size);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EAGAIN) fail_errno("read");
    pollfd p{g_in, POLLIN, 0};
    poll(&p, 1, -1);
  }
}

void write_all(const std::string& data) {
  for (std::size_t done = 0; done < data.size();) {
    const ssize_t n = write(g_out, data.data() + done, data.size() - done);
    if (n < 0 && errno != EAGAIN) fail_errno("write");
    if (n > 0) done += static_cast<std::size_t>(n);
    pollfd p{g_out, POLLOUT, 0};
    if (n < 0) poll(&p, 1, -1);
  }
}

// Reads up to `size` bytes of the pattern; returns how many came before the end of stream.
std::size_t check(std::uint64_t seed, std::size_t from, std::size_t size) {
  Pattern expected(seed, from);
  std::vector<char> block(1 << 16);
  std::size_t done = 0;
  while (done < size) {
    const std::size_t n = read_some(block.data(), std::min(block.size(), size - done));
    if (n == 0) return done;
    for (std::size_t i = 0; i < n; ++i) {
      if (block[i] != expected.next())
        fail("byte " + std::to_string(from + done + i) + " is wrong");
    }
    done += n;
  }
  return done;
}

void echo() {
  std::vector<char> block(1 << 16);
  while (const std::size_t n = read_some(block.data(), block.size())) {
    write_all({block.data(), n});
  }
  if (shutdown(g_out, SHUT_WR) != 0) fail_errno("shutdown");
}

int take(int channel) {
  char byte;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(channel, &message, 0) != 1) fail_errno("recvmsg");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) fail("no descriptor came");
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

int option(int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  if (getsockopt(g_in, level, name, &value, &length) != 0) fail_errno("getsockopt");
  return value;
}

void options() {
  sockaddr_storage local{};
  socklen_t length = sizeof local;
  getsockname(g_in, reinterpret_cast<sockaddr*>(&local), &length);
  require(option(SOL_SOCKET, SO_DOMAIN) == local.ss_family, "SO_DOMAIN");
  require(option(SOL_SOCKET, SO_TYPE) == SOCK_STREAM, "SO_TYPE");
  require(option(SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP, "SO_PROTOCOL");
  require(option(SOL_SOCKET, SO_ERROR) == 0, "SO_ERROR");
  for (const int value : {1, 0}) {
    if (setsockopt(g_in, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value) != 0)
      fail_errno("TCP_NODELAY");
    require((option(IPPROTO_TCP, TCP_NODELAY) != 0) == (value != 0), "TCP_NODELAY reads otherwise");
  }
}

void expect_nothing(const std::string& step) {
  char byte;
  const ssize_t n = recv(g_in, &byte, 1, MSG_DONTWAIT);
  if (step == "eof" && n < 0 && errno == EAGAIN) {
    require(read_some(&byte, 1) == 0, "a byte came instead of the end of stream");
    return;
  }
  if (step == "eof" && n == 0) return;
  if (step == "reset" && n < 0 && errno == ECONNRESET) return;
  if (step == "quiet" && n < 0 && errno == EAGAIN) return;
  fail("recv gives " + std::to_string(n) + (n < 0 ? strerror(errno) : ""));
}

[[noreturn]] void exec_self(char** argv, int rest, bool bare) {
  std::vector<char*> arguments{argv[0]};
  const std::string numbers = std::to_string(g_in) + "," + std::to_string(g_out);
  arguments.push_back(const_cast<char*>(numbers.c_str()));
  for (char** a = argv + rest; *a != nullptr; ++a) arguments.push_back(*a);
  arguments.push_back(nullptr);
  char* nothing[] = {nullptr};
  execve("/proc/self/exe", arguments.data(), bare ? nothing : environ);
  fail_errno("execve");
}

std::vector<std::size_t> numbers_of(const std::string& step) {
  std::vector<std::size_t> numbers;
  for (std::size_t at = step.find(':'); at != std::string::npos; at = step.find(':', at + 1))
    numbers.push_back(std::stoul(step.substr(at + 1)));
  return numbers;
}

void do_step(const std::string& step) {
  char byte = 'x';
  if (step.starts_with("names=")) {
    const std::string names = name_of(g_in, getsockname) + "," + name_of(g_in, getpeername);
    if (names != step.substr(6)) fail("they are " + names);
    return;
  }
  const std::string verb = step.substr(0, step.find(':'));
  const std::vector<std::size_t> n = numbers_of(step);
  if (verb == "recv") {
    require(check(n.at(0), n.at(1), n.at(2)) == n.at(2), "the stream ended early");
  } else if (verb == "recv-eof") {
    char total[17];
    std::snprintf(total, sizeof total, "%016zu", n.at(1) + check(n.at(0), n.at(1), SIZE_MAX));
    write_all(total);
  } else if (verb == "send") {
    write_all(pattern(n.at(2), n.at(0), n.at(1)));
  } else if (verb == "say") {
    require(write(static_cast<int>(n.at(0)), &byte, 1) == 1, "the pipe is gone");
  } else if (verb == "await") {
    require(read(static_cast<int>(n.at(0)), &byte, 1) == 1, "the pipe is gone");
  } else if (verb == "echo") {
    echo();
  } else if (verb == "eof" || verb == "reset" || verb == "quiet") {
    expect_nothing(step);
  } else if (verb == "pipe") {
    require(write(g_out, &byte, 1) == -1 && errno == EPIPE, "the write did not fail with EPIPE");
  } else if (verb == "shutdown") {
    if (shutdown(g_out, SHUT_WR) != 0) fail_errno("shutdown");
  } else if (verb == "close") {
    close(g_in);
    if (g_out != g_in) close(g_out);
  } else if (verb == "options") {
    options();
  } else if (verb == "blocking" || verb == "nonblocking") {
    require(((fcntl(g_in, F_GETFL) & O_NONBLOCK) != 0) == (verb == "nonblocking"), "F_GETFL");
  } else if (verb == "pause") {
    for (;;) pause();
  } else {
    fail("no such step");
  }
}

void find_connection(const std::string& where) {
  if (where.starts_with("take:")) {
    g_in = g_out = take(std::stoi(where.substr(5)));
    return;
  }
  g_in = g_out = std::stoi(where);
  if (const std::size_t comma = where.find(','); comma != std::string::npos)
    g_out = std::stoi(where.substr(comma + 1));
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  using namespace shunt::test;
  alarm(kSeconds);
  signal(SIGPIPE, SIG_IGN);
  int i = 1;
  try {
    if (argc < 2) fail("usage: inheritor CONNECTION STEP...");
    find_connection(argv[1]);
    for (i = 2; i < argc; ++i) {
      const std::string step = argv[i];
      if (step == "exec" || step == "exec-bare") exec_self(argv, i + 1, step == "exec-bare");
      do_step(step);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "inheritor: step %d, %s: %s\n", i - 1, i < argc ? argv[i] : "", e.what());
    return 10 + i - 1;
  }
  return 0;
}
