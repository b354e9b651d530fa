#include "sys/sock_diag.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace shunt::sys {
namespace {

constexpr std::uint8_t kLoopback[4] = {127, 0, 0, 1};
constexpr std::uint8_t kOther[4] = {127, 0, 3, 9};

struct Listener {
  int fd;
  std::uint16_t port;
};

Listener listen_on(int family, const char* address) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_in6);
  if (family == AF_INET) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    length = sizeof *in;
  } else {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    in6->sin6_family = AF_INET6;
    inet_pton(AF_INET6, address, &in6->sin6_addr);
  }
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0 || ::listen(fd, 8) != 0) {
    ::close(fd);
    return {-1, 0};
  }
  length = sizeof storage;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return {fd, ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port)};  // same place in both
}

TEST(SockDiag, FindsTheOwnerOfAListener) {
  const Listener l = listen_on(AF_INET, "127.0.0.1");
  ASSERT_GE(l.fd, 0);
  errno = 77;
  const auto uid = tcp_listener_uid(AF_INET, kLoopback, l.port);
  EXPECT_EQ(77, errno);
  ASSERT_TRUE(uid.ok()) << uid.error();
  EXPECT_EQ(::geteuid(), uid.value());
  EXPECT_EQ(ENOENT, tcp_listener_uid(AF_INET, kOther, l.port).error());
  ::close(l.fd);
  EXPECT_EQ(ENOENT, tcp_listener_uid(AF_INET, kLoopback, l.port).error());
}

TEST(SockDiag, FindsAnotherUsersListener) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to listen as somebody else";
  ASSERT_EQ(0, ::seteuid(65534));
  const Listener l = listen_on(AF_INET, "127.0.0.1");
  ASSERT_EQ(0, ::seteuid(0));
  ASSERT_GE(l.fd, 0);
  const auto uid = tcp_listener_uid(AF_INET, kLoopback, l.port);
  ::close(l.fd);
  ASSERT_TRUE(uid.ok()) << uid.error();
  EXPECT_EQ(65534u, uid.value());
}

TEST(SockDiag, WildcardsAndDualStackCountAsTheKernelCountsThem) {
  const Listener any = listen_on(AF_INET, "0.0.0.0");
  ASSERT_GE(any.fd, 0);
  EXPECT_TRUE(tcp_listener_uid(AF_INET, kOther, any.port).ok());
  ::close(any.fd);
  const Listener dual = listen_on(AF_INET6, "::");
  if (dual.fd < 0) GTEST_SKIP() << "no IPv6 here";
  EXPECT_TRUE(tcp_listener_uid(AF_INET, kOther, dual.port).ok());
  EXPECT_TRUE(tcp_listener_uid(AF_INET6, in6addr_loopback.s6_addr, dual.port).ok());
  ::close(dual.fd);
}

struct UnixListener {
  int fd;
  std::string name;

  UnixListener(const std::string& text, int type) : fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
    name = std::string(1, '\0') + text;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&address), length));
    EXPECT_EQ(0, ::listen(fd, 0));
  }
  ~UnixListener() { ::close(fd); }
};

TEST(SockDiag, FindsTheOwnerOfAnAbstractName) {
  const std::string own = "shunt-test-" + std::to_string(::getpid());
  // More than fit into one answer, and names that begin or end alike.
  std::vector<std::unique_ptr<UnixListener>> others;
  for (int i = 0; i < 500; ++i) {
    others.push_back(std::make_unique<UnixListener>(own + "-" + std::to_string(i), SOCK_STREAM));
  }
  const UnixListener packets(own, SOCK_SEQPACKET);
  const auto ask = [](const std::string& name) {
    return unix_listener_uid(name.data(), name.size());
  };
  errno = 77;
  EXPECT_EQ(ENOENT, ask(packets.name).error());
  const UnixListener listener(own, SOCK_STREAM);
  const auto uid = ask(listener.name);
  EXPECT_EQ(77, errno);
  ASSERT_TRUE(uid.ok()) << uid.error();
  EXPECT_EQ(::geteuid(), uid.value());
  EXPECT_TRUE(ask(others.front()->name).ok());
  EXPECT_TRUE(ask(others.back()->name).ok());
  EXPECT_EQ(ENOENT, ask(listener.name.substr(0, listener.name.size() - 1)).error());
  EXPECT_EQ(ENOENT, ask(own).error());
}

TEST(SockDiag, FindsAnotherUsersAbstractName) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to listen as somebody else";
  ASSERT_EQ(0, ::seteuid(65534));
  const UnixListener listener("shunt-test-other-" + std::to_string(::getpid()), SOCK_STREAM);
  ASSERT_EQ(0, ::seteuid(0));
  const auto uid = unix_listener_uid(listener.name.data(), listener.name.size());
  ASSERT_TRUE(uid.ok()) << uid.error();
  EXPECT_EQ(65534u, uid.value());
}

TEST(SockDiag, RefusesOtherFamilies) {
  EXPECT_EQ(EAFNOSUPPORT, tcp_listener_uid(AF_UNIX, kLoopback, 1).error());
}

}  // namespace
}  // namespace shunt::sys
