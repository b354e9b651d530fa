#include "net.h"

#include <gtest/gtest.h>
#include <sys/time.h>

#include <stdexcept>
#include <system_error>

#include "common/names.h"

namespace shunt::test {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Address::Address(const char* ip, std::uint16_t port) {
  if (std::strchr(ip, ':') != nullptr) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) != 1) throw std::invalid_argument(ip);
    length = sizeof(sockaddr_in6);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    if (inet_pton(AF_INET, ip, &v4->sin_addr) != 1) throw std::invalid_argument(ip);
    length = sizeof(sockaddr_in);
  }
}

std::uint16_t Address::port() const {
  return ntohs(storage.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

std::string Address::text() const { return address_text(storage); }

Address local_address(int fd) {
  Address a;
  if (getsockname(fd, a.get(), &a.length) != 0) fail("getsockname");
  return a;
}

Address peer_address(int fd) {
  Address a;
  if (getpeername(fd, a.get(), &a.length) != 0) fail("getpeername");
  return a;
}

Fd tcp_socket(int family, int flags) {
  Fd fd(socket(family, SOCK_STREAM | flags, 0));
  if (fd < 0) fail("socket");
  return fd;
}

Fd listen_on(const char* ip, int backlog) {
  Address address(ip, 0);
  Fd fd = tcp_socket(address.storage.ss_family, SOCK_CLOEXEC);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, address.get(), address.length) != 0) fail("bind");
  if (listen(fd, backlog) != 0) fail("listen");
  return fd;
}

std::uint16_t port_of(int fd) { return local_address(fd).port(); }

Fd connect_to(const char* ip, std::uint16_t port) {
  Address address(ip, port);
  Fd fd = tcp_socket(address.storage.ss_family, SOCK_CLOEXEC);
  if (connect(fd, address.get(), address.length) != 0) fail("connect");
  return fd;
}

Fd accept_from(int listener) {
  Fd fd(accept(listener, nullptr, nullptr));
  if (fd < 0) fail("accept");
  return fd;
}

Pair connected_pair(const char* ip) {
  Fd listener = listen_on(ip);
  Fd client = connect_to(ip, port_of(listener));
  Fd server = accept_from(listener);
  return {std::move(client), std::move(server)};
}

void set_nonblocking(int fd, bool on) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) fail("F_GETFL");
  if (fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) != 0) fail("F_SETFL");
}

void set_timeout(int fd, int option, int ms) {
  timeval tv{ms / 1000, (ms % 1000) * 1000};
  if (setsockopt(fd, SOL_SOCKET, option, &tv, sizeof tv) != 0) fail("setsockopt timeout");
}

short wait_for(int fd, short events, int timeout_ms) {
  pollfd p{fd, events, 0};
  const int n = poll(&p, 1, timeout_ms);
  if (n < 0) fail("poll");
  return n == 0 ? short{0} : p.revents;
}

void send_all(int fd, const std::string& data) {
  std::size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = send(fd, data.data() + done, data.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN && wait_for(fd, POLLOUT) != 0) continue;
    if (n < 0) fail("send");
    done += static_cast<std::size_t>(n);
  }
}

std::string recv_exact(int fd, std::size_t size) {
  std::string data(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    if (wait_for(fd, POLLIN) == 0) throw std::runtime_error("recv_exact: no data in time");
    const ssize_t n = recv(fd, data.data() + done, size - done, 0);
    if (n < 0 && errno == EAGAIN) continue;
    if (n < 0) fail("recv");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  data.resize(done);
  return data;
}

std::string recv_to_eof(int fd) {
  std::string all;
  for (;;) {
    std::string part = recv_exact(fd, 4096);
    all += part;
    if (part.size() < 4096) return all;
  }
}

void expect_eof(int fd) {
  char byte;
  ASSERT_NE(wait_for(fd, POLLIN), 0) << "no end of stream in time";
  EXPECT_EQ(recv(fd, &byte, 1, 0), 0) << std::strerror(errno);
}

void expect_echo(int from, int to, const std::string& data) {
  send_all(from, data);
  EXPECT_EQ(recv_exact(to, data.size()), data);
}

std::size_t fill(int fd) {
  const std::string block = pattern(1 << 16);
  std::size_t total = 0;
  // TCP moves bytes on from the send queue after EAGAIN: stop when a short wait brings no room.
  for (;;) {
    const ssize_t n = send(fd, block.data(), block.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      total += static_cast<std::size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      if (wait_for(fd, POLLOUT, 20) == 0) return total;
    } else {
      fail("fill");
    }
  }
}

void drain(int fd, std::size_t size) {
  std::string block(1 << 16, '\0');
  while (size > 0) {
    if (wait_for(fd, POLLIN) == 0) throw std::runtime_error("drain: no data in time");
    const ssize_t n = recv(fd, block.data(), std::min(block.size(), size), 0);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) fail("drain");
    size -= static_cast<std::size_t>(n);
  }
}

SignalHandler::SignalHandler(int signal, void (*handler)(int), int flags) : signal_(signal) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (sigaction(signal, &action, &old_) != 0) fail("sigaction");
}

SignalHandler::~SignalHandler() { sigaction(signal_, &old_, nullptr); }

void expect_error(ssize_t result, int error, const char* what) {
  const int seen = errno;
  EXPECT_EQ(result, -1) << what;
  EXPECT_EQ(seen, error) << what << ": " << std::strerror(seen);
}

int so_error(int fd) {
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  return error;
}

std::string self_path() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  return {path, n < 0 ? 0 : static_cast<std::size_t>(n)};
}

bool under_shunt() {
  const char* preload = getenv("LD_PRELOAD");
  return preload != nullptr && std::strstr(preload, "libshunt") != nullptr;
}

}  // namespace shunt::test
