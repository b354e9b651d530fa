// Options of a shunted connection against those of kernel TCP, on the running kernel.
#include "sockets/options/options.h"

#include <linux/tcp.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "sockets/options/connection_ioctl.h"
#include "sockets/options/option_rules.h"
#include "sockets/options/option_setup.h"
#include "sockets/process/result.h"
#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_connection.h"

namespace shunt::sockets {
namespace {

constexpr int kTcp = IPPROTO_TCP;
using Bytes = std::vector<unsigned char>;

struct Answer {
  long result;  // 0 or -errno
  Bytes value;
  bool operator==(const Answer&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Answer& a) {
  out << a.result << " [";
  for (const unsigned char byte : a.value) out << ' ' << int{byte};
  return out << " ]";
}

template <typename T>
Bytes bytes_of(const T& value) {
  Bytes out(sizeof value);
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
Bytes text(const char* s) { return {s, s + std::strlen(s)}; }

Answer native_get(int fd, int level, int name, socklen_t length) {
  Answer a{0, Bytes(length)};
  if (::getsockopt(fd, level, name, a.value.data(), &length) != 0) return {-errno, {}};
  a.value.resize(length);
  return a;
}
long native_set(int fd, int level, int name, const Bytes& value) {
  const auto length = static_cast<socklen_t>(value.size());
  return ::setsockopt(fd, level, name, value.data(), length) == 0 ? 0 : -errno;
}
Answer shunted_get(const TestEnd& end, int level, int name, socklen_t length) {
  Answer a{0, Bytes(length)};
  a.result = get_connection_option(end.fd, end.socket, level, name, a.value.data(), &length);
  if (a.result < 0) return {a.result, {}};
  a.value.resize(length);
  return a;
}
long shunted_set(const TestEnd& end, int level, int name, const Bytes& value) {
  const auto length = static_cast<socklen_t>(value.size());
  return set_connection_option(end.fd, end.socket, level, name, value.data(), length);
}
int shunted_int(const TestEnd& end, int level, int name) {
  const Answer a = shunted_get(end, level, name, sizeof(int));
  EXPECT_EQ(0, a.result);
  EXPECT_EQ(sizeof(int), a.value.size());
  int value = 0;
  if (a.value.size() == sizeof value) std::memcpy(&value, a.value.data(), sizeof value);
  return value;
}

std::vector<Bytes> values_to_try() {
  std::vector<Bytes> values;
  for (const int n : {0, 1, -1, 2, 5, 100, 127, 128, 4096, 32767, 32768, 70'000, 10'000'000}) {
    values.push_back(bytes_of(n));
  }
  values.push_back(bytes_of(linger{1, 5}));
  values.push_back(bytes_of(linger{0, 7}));
  values.push_back(bytes_of(linger{1, -1}));
  for (const auto& [s, us] : {std::pair<long, long>{1, 500'000},
                              {0, 1},
                              {-1, 0},
                              {0, 1'000'000},
                              {0, -1},
                              {1L << 60, 0}}) {
    values.push_back(bytes_of(std::pair<long, long>{s, us}));
  }
  for (const char* s : {"", "\1", "\7\0", "reno", "cubic", "no-such-algorithm", "lo"}) {
    values.push_back(text(s));
  }
  values.push_back({0});
  values.push_back({16, 0, 0});
  return values;
}

// Told from the socket's traffic or identity, not from options.
bool differs_by_nature(int level, int name) {
  if (level == SOL_SOCKET) {
    // SO_MEMINFO and SO_NAPI_ID tell of packets; SO_PASSCRED, ... of credentials.
    return name == SO_COOKIE || name == SO_INCOMING_CPU || name == SO_MEMINFO ||
           name == SO_PEERNAME;
  }
  if (level == kTcp) {
    return name == TCP_INFO || name == TCP_CC_INFO || name == TCP_TIMESTAMP ||
           name == TCP_ZEROCOPY_RECEIVE || name == TCP_MAXSEG || name == TCP_ULP;
  }
  if (level == IPPROTO_IP) return name == 52;  // IP_PROTOCOL of raw sockets; noise on TCP
  return level == IPPROTO_IPV6 && name == IPV6_PATHMTU;
}

class OptionsTest : public testing::TestWithParam<int> {};

TEST_P(OptionsTest, AnUntouchedConnectionAnswersAsKernelTcp) {
  TcpPair tcp(GetParam());
  tcp.connect();
  ShuntedPair shunted(GetParam());
  for (const int level : {SOL_SOCKET, kTcp, +IPPROTO_IP, +IPPROTO_IPV6, +IPPROTO_UDP}) {
    for (int name = 0; name < 90; ++name) {
      if (differs_by_nature(level, name)) continue;
      for (const socklen_t length : {0U, 1U, 3U, 4U, 8U, 16U, 24U}) {
        EXPECT_EQ(native_get(tcp.client, level, name, length),
                  shunted_get(shunted.a, level, name, length))
            << "level " << level << " name " << name << " length " << length;
      }
    }
  }
}

TEST_P(OptionsTest, EveryValueHasTheEffectThatKernelTcpShows) {
  int count = 0;
  const Option* options = options_table(&count);
  for (int i = 0; i < count; ++i) {
    const Option& o = options[i];
    if (o.rule == OptionRule::kNeutral || differs_by_nature(o.level, o.name)) continue;
    if (std::string(o.text) == "SO_DEBUG") continue;  // only for root
    for (const Bytes& value : values_to_try()) {
      TcpPair tcp(GetParam());
      tcp.connect();
      const ShuntedPair shunted(GetParam());
      EXPECT_EQ(native_set(tcp.client, o.level, o.name, value),
                shunted_set(shunted.a, o.level, o.name, value))
          << o.text << testing::PrintToString(value);
      EXPECT_EQ(native_get(tcp.client, o.level, o.name, 16),
                shunted_get(shunted.a, o.level, o.name, 16))
          << o.text << testing::PrintToString(value);
    }
  }
}

TEST_P(OptionsTest, WhatSharedMemoryCannotDoIsRefusedAndNamedBefore) {
  const ShuntedPair shunted(GetParam());
  struct Case {
    int level;
    int name;
    Bytes on;
    Bytes off;
    const char* text;
  };
  const std::vector<Case> cases = {
      {SOL_SOCKET, SO_ZEROCOPY, bytes_of(1), bytes_of(0), "SO_ZEROCOPY"},
      {SOL_SOCKET, SO_TIMESTAMP, bytes_of(1), bytes_of(0), "SO_TIMESTAMP"},
      {SOL_SOCKET, SO_MAX_PACING_RATE, bytes_of(1'000'000), bytes_of(-1), "SO_MAX_PACING_RATE"},
      {kTcp, TCP_INQ, bytes_of(1), bytes_of(0), "TCP_INQ"},
      {IPPROTO_IP, IP_MINTTL, bytes_of(255), bytes_of(0), "IP_MINTTL"},
  };
  for (const Case& c : cases) {
    const auto size = [](const Bytes& b) { return static_cast<socklen_t>(b.size()); };
    EXPECT_STREQ(c.text, option_forbids_shared_memory(c.level, c.name, c.on.data(), size(c.on)));
    EXPECT_EQ(nullptr, option_forbids_shared_memory(c.level, c.name, c.off.data(), size(c.off)));
    EXPECT_EQ(-EOPNOTSUPP, shunted_set(shunted.a, c.level, c.name, c.on)) << c.text;
    EXPECT_EQ(0, shunted_set(shunted.a, c.level, c.name, c.off)) << c.text;
  }
  const int on = 1;
  EXPECT_EQ(nullptr, option_forbids_shared_memory(kTcp, TCP_NODELAY, &on, sizeof on));
  EXPECT_STREQ("TCP option", option_forbids_shared_memory(kTcp, TCP_MD5SIG, &on, sizeof on));
  EXPECT_GT(0, shunted_set(shunted.a, kTcp, TCP_ULP, text("tls")));
}

// Sets `value` on the socket `tcp`, as a program does before connect or listen.
void set_before(int tcp, int level, int name, const Bytes& value) {
  ASSERT_EQ(0, native_set(tcp, level, name, value));
  option_forbids_shared_memory(level, name, value.data(), static_cast<socklen_t>(value.size()));
}

const std::vector<std::tuple<int, int, Bytes>>& typical_options() {
  static const std::vector<std::tuple<int, int, Bytes>> options = {
      {SOL_SOCKET, SO_KEEPALIVE, bytes_of(1)},
      {SOL_SOCKET, SO_REUSEADDR, bytes_of(1)},
      {SOL_SOCKET, SO_SNDBUF, bytes_of(50'000)},
      {SOL_SOCKET, SO_RCVBUF, bytes_of(60'000)},
      {SOL_SOCKET, SO_LINGER, bytes_of(linger{1, 5})},
      {SOL_SOCKET, SO_RCVLOWAT, bytes_of(10)},
      {SOL_SOCKET, SO_RCVTIMEO, bytes_of(timeval{1, 500'000})},
      {SOL_SOCKET, SO_SNDTIMEO_NEW, bytes_of(timeval{2, 0})},
      {SOL_SOCKET, SO_PRIORITY, bytes_of(3)},
      {kTcp, TCP_NODELAY, bytes_of(1)},
      {kTcp, TCP_KEEPIDLE, bytes_of(60)},
      {kTcp, TCP_USER_TIMEOUT, bytes_of(30'000)},
      {kTcp, TCP_CONGESTION, text("reno")},
      {kTcp, TCP_DEFER_ACCEPT, bytes_of(5)},
      {IPPROTO_IP, IP_TOS, bytes_of(0x10)},
      {IPPROTO_IP, IP_TTL, bytes_of(33)},
  };
  return options;
}

TEST_P(OptionsTest, AConnectionTakesOverWhatWasSetBeforeConnect) {
  TcpPair tcp(GetParam());
  const ShuntedPair shunted(GetParam());
  for (const auto& [level, name, value] : typical_options()) {
    set_before(tcp.client, level, name, value);
  }
  adopt_options(shunted.a.connection(), tcp.client, GetParam());
  tcp.connect();
  for (const auto& [level, name, value] : typical_options()) {
    EXPECT_EQ(native_get(tcp.client, level, name, 16), shunted_get(shunted.a, level, name, 16))
        << level << ' ' << name;
  }
  const Connection* c = shunted.a.connection();
  EXPECT_EQ(1'500'000'000, c->read_timeout_ns);
  EXPECT_EQ(2'000'000'000, c->write_timeout_ns);
  EXPECT_EQ(5, c->linger_seconds);
  EXPECT_EQ(10u, c->read_low_water);
  EXPECT_LT(c->writer.limit, layout::kStreamBytes);
}

TEST_P(OptionsTest, AnAcceptedConnectionInheritsAsLinuxSays) {
  TcpPair tcp(GetParam());
  const ShuntedPair shunted(GetParam());
  for (const auto& [level, name, value] : typical_options()) {
    if (name == TCP_DEFER_ACCEPT && level == kTcp) continue;  // would wait for data
    set_before(tcp.listener, level, name, value);
  }
  inherit_options(shunted.a.connection(), tcp.listener, GetParam());
  tcp.connect();
  for (const auto& [level, name, value] : typical_options()) {
    EXPECT_EQ(native_get(tcp.accepted, level, name, 16), shunted_get(shunted.a, level, name, 16))
        << level << ' ' << name;
  }
  if (GetParam() == AF_INET6) {
    EXPECT_EQ(native_get(tcp.accepted, IPPROTO_IPV6, IPV6_V6ONLY, 4),
              shunted_get(shunted.a, IPPROTO_IPV6, IPV6_V6ONLY, 4));
  }
}

TEST_P(OptionsTest, DefaultsThatWereNotSetAreThoseOfAConnection) {
  // Other sockets of this process did set them; this one did not.
  const TcpPair tcp(GetParam());
  TcpPair other(GetParam());
  set_before(other.client, SOL_SOCKET, SO_SNDBUF, bytes_of(8192));
  set_before(other.client, kTcp, TCP_MAXSEG, bytes_of(1000));
  const ShuntedPair shunted(GetParam());
  adopt_options(shunted.a.connection(), tcp.client, GetParam());
  EXPECT_EQ(layout::kStreamBytes, shunted.a.connection()->writer.limit);
  EXPECT_LT(16'384, shunted_int(shunted.a, SOL_SOCKET, SO_SNDBUF));
  EXPECT_LT(1000, shunted_int(shunted.a, kTcp, TCP_MAXSEG));
  adopt_options(shunted.b.connection(), other.client, GetParam());
  EXPECT_EQ(988, shunted_int(shunted.b, kTcp, TCP_MAXSEG));
  EXPECT_EQ(16'384, shunted_int(shunted.b, SOL_SOCKET, SO_SNDBUF));
}

TEST_P(OptionsTest, TcpInfoTellsOfTheConnection) {
  const ShuntedPair shunted(GetParam());
  TcpPair tcp(GetParam());
  tcp.connect();
  tcp_info info{};
  const auto ask = [&](const TestEnd& end) {
    const Answer a = shunted_get(end, kTcp, TCP_INFO, sizeof info);
    EXPECT_EQ(0, a.result);
    EXPECT_EQ(native_get(tcp.client, kTcp, TCP_INFO, sizeof info).value.size(), a.value.size());
    std::memcpy(&info, a.value.data(), a.value.size());
  };
  char data[1000] = {};
  const iovec part{data, sizeof data};
  ASSERT_EQ(1000, send_stream(shunted.a.fd, shunted.a.socket, &part, 1, 0));
  ask(shunted.a);
  EXPECT_EQ(1, info.tcpi_state);
  EXPECT_EQ(1000u, info.tcpi_bytes_sent);
  EXPECT_LT(500u, info.tcpi_snd_mss);
  EXPECT_LT(0u, info.tcpi_rtt);
  EXPECT_EQ(0u, info.tcpi_total_retrans);
  ASSERT_EQ(1000, receive_stream(shunted.b.fd, shunted.b.socket, &part, 1, 0));
  ask(shunted.b);
  EXPECT_EQ(1000u, info.tcpi_bytes_received);
  ASSERT_EQ(0, shutdown_stream(shunted.a.fd, shunted.a.socket, SHUT_WR));
  ask(shunted.a);
  EXPECT_EQ(5, info.tcpi_state);  // FIN_WAIT2
  ask(shunted.b);
  EXPECT_EQ(8, info.tcpi_state);  // CLOSE_WAIT
  EXPECT_EQ(12u, shunted_get(shunted.b, kTcp, TCP_INFO, 12).value.size());
}

TEST_P(OptionsTest, TheErrorIsTakenOnce) {
  const ShuntedPair shunted(GetParam());
  EXPECT_EQ(0, shunted_int(shunted.a, SOL_SOCKET, SO_ERROR));
  conn::on_reset(shunted.a.connection()->state);
  EXPECT_EQ(ECONNRESET, shunted_int(shunted.a, SOL_SOCKET, SO_ERROR));
  EXPECT_EQ(0, shunted_int(shunted.a, SOL_SOCKET, SO_ERROR));
}

TEST_P(OptionsTest, BadLengthsAndPointers) {
  const ShuntedPair shunted(GetParam());
  const TestEnd& a = shunted.a;
  int value = 0;
  socklen_t length = sizeof value;
  EXPECT_EQ(-EFAULT, get_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, nullptr, &length));
  EXPECT_EQ(-EFAULT, get_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, &value, nullptr));
  length = static_cast<socklen_t>(-1);
  EXPECT_EQ(-EINVAL, get_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, &value, &length));
  EXPECT_EQ(-EFAULT, set_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, nullptr, 4));
  EXPECT_EQ(-EINVAL, set_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, &value, 3));
  EXPECT_EQ(-EINVAL, set_connection_option(a.fd, a.socket, kTcp, TCP_NODELAY, &value,
                                           static_cast<socklen_t>(-1)));
}

TEST_P(OptionsTest, IoctlCountsBytes) {
  const ShuntedPair shunted(GetParam());
  const TestEnd& a = shunted.a;
  const TestEnd& b = shunted.b;
  char data[100] = {};
  const iovec part{data, sizeof data};
  ASSERT_EQ(100, send_stream(a.fd, a.socket, &part, 1, 0));
  int value = -1;
  EXPECT_EQ(0, connection_ioctl(b.fd, b.socket, FIONREAD, &value));
  EXPECT_EQ(100, value);
  EXPECT_EQ(0, connection_ioctl(a.fd, a.socket, TIOCOUTQ, &value));
  EXPECT_EQ(100, value);
  value = 1;
  EXPECT_EQ(0, connection_ioctl(a.fd, a.socket, FIONBIO, &value));
  EXPECT_TRUE(a.connection()->nonblocking.load());
  const iovec out{data, 1};
  EXPECT_EQ(-EAGAIN, receive_stream(a.fd, a.socket, &out, 1, 0));
  EXPECT_EQ(-EFAULT, connection_ioctl(a.fd, a.socket, FIONREAD, nullptr));
  EXPECT_EQ(kPassOn, connection_ioctl(a.fd, a.socket, FIOCLEX, nullptr));
  EXPECT_EQ(-EOPNOTSUPP, connection_ioctl(a.fd, a.socket, FIOASYNC, &value));
}

INSTANTIATE_TEST_SUITE_P(Families, OptionsTest, testing::Values(AF_INET, AF_INET6),
                         [](const auto& family) { return family.param == AF_INET ? "v4" : "v6"; });

}  // namespace
}  // namespace shunt::sockets
