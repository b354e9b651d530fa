// Another local user who binds the names under which listeners are found: no program is connected to him, none
// is kept waiting by him, and he hides no listener.
#include "sockets/testing/test_stranger.h"

namespace shunt::sockets {
namespace {

constexpr const char* kLocal = "10.77.0.1";
constexpr const char* kRemote = "10.77.0.2";

// connect() of the provider; not that of the kernel, which would follow on kPassOn.
Outcome try_connect(const End& client, const wire::Endpoint& to) {
  const sockaddr_in in = address_of(to);
  return connect_socket(client.fd, client.socket, reinterpret_cast<const sockaddr*>(&in),
                        sizeof in);
}

void bind_to(const End& client, const char* address) {
  const sockaddr_in in = address_of(ipv4(address, 0));
  EXPECT_EQ(0, ::bind(client.fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
}

// A kernel listener at the wildcard address: its owner is believed for every local address.
struct WildcardTcp {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::uint16_t port = 0;

  WildcardTcp() {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    socklen_t length = sizeof in;
    EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&in), length));
    EXPECT_EQ(0, ::listen(fd, 10));
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&in), &length);
    port = ntohs(in.sin_port);
  }
  ~WildcardTcp() { ::close(fd); }
};

// What another user takes who claims a remote address: nothing. `prepare` is done in the namespace before, `bound`
// to the client.
template <typename Prepare>
void expect_remote_stays_remote(Prepare prepare, const char* bound) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  const bool made = in_own_namespace([&] {
    prepare();
    std::unique_ptr<WildcardTcp> tcp;
    std::unique_ptr<Squatter> squatter;
    {
      const AsStranger stranger;
      tcp = std::make_unique<WildcardTcp>();
      squatter = std::make_unique<Squatter>(ipv4(kRemote, tcp->port));
    }
    const End client = tcp_socket();
    if (bound != nullptr) bind_to(client, bound);
    EXPECT_EQ(kPassOn, try_connect(client, ipv4(kRemote, tcp->port)));
    EXPECT_FALSE(squatter->reached());
    EXPECT_EQ(wire::Reason::kNotInWindow, client.socket->reason);
    // A local address is another matter: there he has the kernel's listener.
    Squatter own(ipv4(kLocal, tcp->port));
    const End neighbour = tcp_socket();
    EXPECT_EQ(0, try_connect(neighbour, ipv4(kLocal, tcp->port)));
    EXPECT_TRUE(neighbour.shunted());
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

TEST(Stranger, WhoClaimsARemoteAddressDoesNotReceiveItsConnections) {
  expect_remote_stays_remote([] {}, nullptr);
}

TEST(Stranger, NorOfAClientThatWasBoundBefore) {
  expect_remote_stays_remote([] {}, kLocal);
}

TEST(Stranger, NorWhereTheKernelLetsForeignAddressesBeBound) {
  expect_remote_stays_remote([] { EXPECT_TRUE(set_sysctl("net/ipv4/ip_nonlocal_bind", "1")); },
                             nullptr);
}

TEST(Stranger, NorOverAWildcardsName) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  const bool made = in_own_namespace([&] {
    EXPECT_TRUE(set_sysctl("net/ipv4/ip_nonlocal_bind", "1"));
    const WildcardTcp tcp;
    const Squatter wildcard(ipv4("0.0.0.0", tcp.port));
    const End client = tcp_socket();
    EXPECT_EQ(kPassOn, try_connect(client, ipv4(kRemote, tcp.port)));
    EXPECT_FALSE(wildcard.reached());
    const End neighbour = tcp_socket();
    EXPECT_EQ(0, try_connect(neighbour, ipv4(kLocal, tcp.port)));
    EXPECT_TRUE(neighbour.shunted());
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

TEST(Stranger, WhoTakesASpecificNameHidesNoWildcardListener) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  const WildcardTcp tcp;
  const wire::Endpoint to = ipv4("127.0.0.1", tcp.port);
  std::unique_ptr<Squatter> squatter;
  {
    const AsStranger stranger;
    squatter = std::make_unique<Squatter>(to);
  }
  const Squatter wildcard(ipv4("0.0.0.0", tcp.port));
  const Server first;  // with the status page, which stays
  const Holdings before = Holdings::now();
  {
    const End client = tcp_socket();
    EXPECT_EQ(0, try_connect(client, to));
    EXPECT_TRUE(client.shunted());
    EXPECT_TRUE(wildcard.reached());
  }
  EXPECT_EQ(before, Holdings::now());
}

// Bound to an address that is not this host's, as anybody may bind a socket that asks for it.
int foreign_source(int fd) {
  const int yes = 1;
  EXPECT_EQ(0, ::setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &yes, sizeof yes));
  const sockaddr_in in = address_of(ipv4(kRemote, 4711));
  EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
  return fd;
}

// A CONNECT of a stranger's making.
void send_connect(Liar& liar, const Server& server, const wire::Endpoint& destination, int source) {
  liar.reach(server);
  const wire::MessageBytes bytes = wire::encode(liar.connect_message(destination));
  const int fds[2] = {liar.area_fd, source};
  EXPECT_EQ(256, sys::send_fds(liar.bell, bytes.data(), bytes.size(), fds, 2, 0));
  ::close(source);
}

TEST(Stranger, WhoConnectsFromAForeignAddressIsRefused) {
  const bool made = in_own_namespace([&] {
    const Server server;
    Liar liar;
    const int tcp = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    send_connect(liar, server, server.local, foreign_source(tcp));
    EXPECT_EQ(-EAGAIN, server.accept_raw());
    EXPECT_TRUE(liar.hung_up());
    Neighbour(server).expect_unharmed();
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

TEST(Stranger, NorDoesAListenerSeemToHaveAForeignAddress) {
  const bool made = in_own_namespace([&] {
    const Server server("0.0.0.0");
    for (const char* claimed : {kRemote, "10.99.0.1"}) {
      Liar liar;
      wire::Endpoint source;
      const int tcp = bound_tcp(&source);
      send_connect(liar, server, ipv4(claimed, server.local.port), tcp);
      EXPECT_EQ(-EAGAIN, server.accept_raw());
      EXPECT_TRUE(liar.hung_up());
    }
    Neighbour(server).expect_unharmed();
    const End client = tcp_socket();
    EXPECT_EQ(0, try_connect(client, ipv4(kLocal, server.local.port)));
    expect_healthy(client, server.accept());
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

// The kernel decides what becomes of a client that is bound to a foreign address.
TEST(Stranger, AClientBoundToAForeignAddressIsLeftToTheKernel) {
  const bool made = in_own_namespace([&] {
    const Server server;
    const End client = tcp_socket();
    foreign_source(client.fd);
    EXPECT_EQ(kPassOn, try_connect(client, server.local));
    EXPECT_EQ(wire::Reason::kBadSource, client.socket->reason);
    EXPECT_EQ(-EAGAIN, server.accept_raw());
  });
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
}

// A client that connects in a thread of its own, as its program would: blocking.
struct Waiting {
  End client = tcp_socket();
  std::future<long> result;

  void connect(const wire::Endpoint& to) {
    result = std::async(std::launch::async,
                        [this, to] { return try_connect(client, to).value_or(kPassedOn); });
  }
  static constexpr long kPassedOn = 77;
};

TEST(Stranger, WhoseBacklogIsFullKeepsNobodyWaiting) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  wire::Endpoint to;
  const int tcp = bound_tcp(&to);
  EXPECT_EQ(0, ::listen(tcp, 10));
  std::unique_ptr<Squatter> squatter;
  {
    const AsStranger stranger;
    squatter = std::make_unique<Squatter>(to, 0);
    squatter->fill(to);
  }
  const Holdings before = Holdings::now();
  {
    Waiting w;
    w.connect(to);
    EXPECT_EQ(Waiting::kPassedOn, within_seconds(5, w.result, [&] { squatter.reset(); }));
    EXPECT_EQ(wire::Reason::kUntrustedListener, w.client.socket->reason);
    // One that does not wait learns the same.
    End nonblocking = tcp_socket();
    ::fcntl(nonblocking.fd, F_SETFL, O_NONBLOCK);
    EXPECT_EQ(kPassOn, try_connect(nonblocking, to));
    EXPECT_EQ(wire::Reason::kUntrustedListener, nonblocking.socket->reason);
  }
  EXPECT_EQ(before, Holdings::now());
  ::close(tcp);
}

TEST(Stranger, WhoseBacklogIsFullHidesNoWildcardListener) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  const WildcardTcp tcp;
  const wire::Endpoint to = ipv4("127.0.0.1", tcp.port);
  std::unique_ptr<Squatter> squatter;
  {
    const AsStranger stranger;
    squatter = std::make_unique<Squatter>(to, 0);
    squatter->fill(to);
  }
  const Squatter wildcard(ipv4("0.0.0.0", tcp.port));
  Waiting w;
  w.connect(to);
  EXPECT_EQ(0, within_seconds(5, w.result, [&] { squatter.reset(); }));
  EXPECT_TRUE(wildcard.reached());
}

TEST(FullBacklog, OfATrustedListenerIsWaitedFor) {
  wire::Endpoint to;
  const int tcp = bound_tcp(&to);
  EXPECT_EQ(0, ::listen(tcp, 10));
  Squatter own(to, 0);
  own.fill(to);
  Waiting w;
  w.connect(to);
  EXPECT_EQ(std::future_status::timeout, w.result.wait_for(std::chrono::milliseconds(50)));
  const int accepted = ::accept4(own.rendezvous, nullptr, nullptr, SOCK_CLOEXEC);
  EXPECT_EQ(0, within_seconds(5, w.result, [&] { ::close(own.rendezvous); }));
  EXPECT_TRUE(w.client.shunted());
  ::close(accepted);
  ::close(tcp);
}

TEST(FullBacklog, IsWaitedForNoLongerThanTheProgramWaits) {
  wire::Endpoint to;
  const int tcp = bound_tcp(&to);
  EXPECT_EQ(0, ::listen(tcp, 10));
  Squatter own(to, 0);
  own.fill(to);
  Waiting w;
  const timeval patience{0, 200'000};
  ::setsockopt(w.client.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const std::int64_t begin = sys::monotonic_ns();
  w.connect(to);
  EXPECT_EQ(Waiting::kPassedOn,
            within_seconds(5, w.result, [&] { ::shutdown(own.rendezvous, SHUT_RDWR); }));
  EXPECT_LE(190'000'000, sys::monotonic_ns() - begin);
  EXPECT_EQ(wire::Reason::kBacklogFull, w.client.socket->reason);
  // Room in time: connected, and no time limit is left on the connection.
  Waiting late;
  const timeval long_patience{60, 0};
  ::setsockopt(late.client.fd, SOL_SOCKET, SO_SNDTIMEO, &long_patience, sizeof long_patience);
  late.connect(to);
  const int accepted = ::accept4(own.rendezvous, nullptr, nullptr, SOCK_CLOEXEC);
  EXPECT_EQ(0, within_seconds(5, late.result, [&] { ::shutdown(own.rendezvous, SHUT_RDWR); }));
  timeval left{1, 1};
  socklen_t length = sizeof left;
  EXPECT_EQ(0, ::getsockopt(late.client.fd, SOL_SOCKET, SO_SNDTIMEO, &left, &length));
  EXPECT_EQ(0, left.tv_sec + left.tv_usec);
  ::close(accepted);
  ::close(tcp);
}

}  // namespace
}  // namespace shunt::sockets
