#include "sockets/options/option_rules.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <atomic>
#include <climits>
#include <cstring>

#include "sockets/options/options.h"

namespace shunt::sockets {
namespace {

// Newer than Debian 12's headers, or missing there.
constexpr int kSoRcvMark = 75;
constexpr int kIpLocalPortRange = 51;
constexpr int kTcpRtoMaxMs = 44;
constexpr int kTcpRtoMinUs = 45;
constexpr int kTcpDelackMaxUs = 46;
constexpr int kIpv6AddrPreferences = 72;
constexpr int kIpv6MinHopCount = 73;
constexpr int kIpv6OrigDstAddr = 74;
constexpr int kIpv6Transparent = 75;
constexpr int kIpv6UnicastIf = 76;
constexpr int kIpv6RecvFragSize = 77;
constexpr int kIpv6FreeBind = 78;

constexpr int kTcp = IPPROTO_TCP;
constexpr int kIp = IPPROTO_IP;
constexpr int kIpv6 = IPPROTO_IPV6;
constexpr int kMaxKeepIdle = 32767;  // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
constexpr int kMaxKeepCount = 127;   // MAX_TCP_KEEPCNT, MAX_TCP_SYNCNT

constexpr Option entry(int level, int name, OptionRule rule, const char* text,
                       bool inherited = true, int low = 0, int high = 0) {
  return {static_cast<std::int16_t>(level),
          static_cast<std::int16_t>(name),
          rule,
          inherited,
          low,
          high,
          text};
}

using enum OptionRule;

#define SHUNT_NAMED(level, name, rule) entry(level, name, rule, #name)

constexpr Option kOptions[] = {
    SHUNT_NAMED(SOL_SOCKET, SO_KEEPALIVE, kSwitch),
    SHUNT_NAMED(SOL_SOCKET, SO_REUSEADDR, kSwitch),
    SHUNT_NAMED(SOL_SOCKET, SO_SNDBUF, kField),
    SHUNT_NAMED(SOL_SOCKET, SO_SNDBUFFORCE, kField),
    SHUNT_NAMED(SOL_SOCKET, SO_RCVBUF, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_RCVBUFFORCE, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_LINGER, kField),
    SHUNT_NAMED(SOL_SOCKET, SO_RCVLOWAT, kField),
    entry(SOL_SOCKET, SO_RCVTIMEO_OLD, kField, "SO_RCVTIMEO"),
    entry(SOL_SOCKET, SO_SNDTIMEO_OLD, kField, "SO_SNDTIMEO"),
    entry(SOL_SOCKET, SO_RCVTIMEO_NEW, kField, "SO_RCVTIMEO"),
    entry(SOL_SOCKET, SO_SNDTIMEO_NEW, kField, "SO_SNDTIMEO"),
    SHUNT_NAMED(SOL_SOCKET, SO_DEBUG, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_DONTROUTE, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_BROADCAST, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_OOBINLINE, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_NO_CHECK, kKeep),
    entry(SOL_SOCKET, SO_PRIORITY, kKeep, "SO_PRIORITY", false),
    SHUNT_NAMED(SOL_SOCKET, SO_BSDCOMPAT, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_REUSEPORT, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_SELECT_ERR_QUEUE, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_BUSY_POLL, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_PREFER_BUSY_POLL, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_BUSY_POLL_BUDGET, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_INCOMING_CPU, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_BUF_LOCK, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_TXREHASH, kKeep),
    SHUNT_NAMED(SOL_SOCKET, SO_MARK, kNeutral),
    SHUNT_NAMED(SOL_SOCKET, SO_BINDTODEVICE, kNeutral),
    SHUNT_NAMED(SOL_SOCKET, SO_BINDTOIFINDEX, kNeutral),
    SHUNT_NAMED(SOL_SOCKET, SO_MAX_PACING_RATE, kNeutral),
    SHUNT_NAMED(SOL_SOCKET, SO_ZEROCOPY, kNeutral),
    entry(SOL_SOCKET, SO_TIMESTAMP_OLD, kNeutral, "SO_TIMESTAMP"),
    entry(SOL_SOCKET, SO_TIMESTAMP_NEW, kNeutral, "SO_TIMESTAMP"),
    entry(SOL_SOCKET, SO_TIMESTAMPNS_OLD, kNeutral, "SO_TIMESTAMPNS"),
    entry(SOL_SOCKET, SO_TIMESTAMPNS_NEW, kNeutral, "SO_TIMESTAMPNS"),
    entry(SOL_SOCKET, SO_TIMESTAMPING_OLD, kNeutral, "SO_TIMESTAMPING"),
    entry(SOL_SOCKET, SO_TIMESTAMPING_NEW, kNeutral, "SO_TIMESTAMPING"),
    SHUNT_NAMED(SOL_SOCKET, SO_RXQ_OVFL, kNeutral),
    SHUNT_NAMED(SOL_SOCKET, SO_WIFI_STATUS, kNeutral),
    entry(SOL_SOCKET, kSoRcvMark, kNeutral, "SO_RCVMARK"),

    SHUNT_NAMED(kTcp, TCP_NODELAY, kSwitch),
    SHUNT_NAMED(kTcp, TCP_CORK, kSwitch),
    entry(kTcp, TCP_KEEPIDLE, kRange, "TCP_KEEPIDLE", true, 1, kMaxKeepIdle),
    entry(kTcp, TCP_KEEPINTVL, kRange, "TCP_KEEPINTVL", true, 1, kMaxKeepIdle),
    entry(kTcp, TCP_KEEPCNT, kRange, "TCP_KEEPCNT", true, 1, kMaxKeepCount),
    entry(kTcp, TCP_SYNCNT, kRange, "TCP_SYNCNT", true, 1, kMaxKeepCount),
    entry(kTcp, TCP_USER_TIMEOUT, kRange, "TCP_USER_TIMEOUT", true, 0, INT_MAX),
    SHUNT_NAMED(kTcp, TCP_MAXSEG, kKeep),
    SHUNT_NAMED(kTcp, TCP_LINGER2, kKeep),
    entry(kTcp, TCP_DEFER_ACCEPT, kKeep, "TCP_DEFER_ACCEPT", false),
    SHUNT_NAMED(kTcp, TCP_WINDOW_CLAMP, kKeep),
    SHUNT_NAMED(kTcp, TCP_QUICKACK, kKeep),
    SHUNT_NAMED(kTcp, TCP_CONGESTION, kKeep),
    SHUNT_NAMED(kTcp, TCP_THIN_LINEAR_TIMEOUTS, kKeep),
    SHUNT_NAMED(kTcp, TCP_THIN_DUPACK, kKeep),
    SHUNT_NAMED(kTcp, TCP_NOTSENT_LOWAT, kKeep),
    entry(kTcp, kTcpRtoMaxMs, kKeep, "TCP_RTO_MAX_MS"),
    entry(kTcp, kTcpRtoMinUs, kKeep, "TCP_RTO_MIN_US"),
    entry(kTcp, kTcpDelackMaxUs, kKeep, "TCP_DELACK_MAX_US"),
    entry(kTcp, TCP_FASTOPEN, kBefore, "TCP_FASTOPEN", false),
    entry(kTcp, TCP_FASTOPEN_CONNECT, kBefore, "TCP_FASTOPEN_CONNECT", false),
    SHUNT_NAMED(kTcp, TCP_FASTOPEN_NO_COOKIE, kBefore),
    SHUNT_NAMED(kTcp, TCP_SAVE_SYN, kNeutral),
    SHUNT_NAMED(kTcp, TCP_INQ, kNeutral),
    SHUNT_NAMED(kTcp, TCP_TX_DELAY, kNeutral),

    SHUNT_NAMED(kIp, IP_TOS, kKeep),
    SHUNT_NAMED(kIp, IP_TTL, kKeep),
    SHUNT_NAMED(kIp, IP_RECVOPTS, kKeep),
    SHUNT_NAMED(kIp, IP_RETOPTS, kKeep),
    SHUNT_NAMED(kIp, IP_PKTINFO, kKeep),
    SHUNT_NAMED(kIp, IP_MTU_DISCOVER, kKeep),
    SHUNT_NAMED(kIp, IP_RECVERR, kKeep),
    SHUNT_NAMED(kIp, IP_RECVTTL, kKeep),
    SHUNT_NAMED(kIp, IP_RECVTOS, kKeep),
    SHUNT_NAMED(kIp, IP_FREEBIND, kKeep),
    SHUNT_NAMED(kIp, IP_RECVORIGDSTADDR, kKeep),
    SHUNT_NAMED(kIp, IP_CHECKSUM, kKeep),
    SHUNT_NAMED(kIp, IP_BIND_ADDRESS_NO_PORT, kKeep),
    SHUNT_NAMED(kIp, IP_RECVFRAGSIZE, kKeep),
    SHUNT_NAMED(kIp, IP_MULTICAST_IF, kKeep),
    SHUNT_NAMED(kIp, IP_MULTICAST_TTL, kKeep),
    SHUNT_NAMED(kIp, IP_MULTICAST_LOOP, kKeep),
    SHUNT_NAMED(kIp, IP_MULTICAST_ALL, kKeep),
    entry(kIp, kIpLocalPortRange, kKeep, "IP_LOCAL_PORT_RANGE"),
    SHUNT_NAMED(kIp, IP_OPTIONS, kNeutral),
    SHUNT_NAMED(kIp, IP_PASSSEC, kNeutral),
    SHUNT_NAMED(kIp, IP_TRANSPARENT, kNeutral),
    SHUNT_NAMED(kIp, IP_MINTTL, kNeutral),
    SHUNT_NAMED(kIp, IP_UNICAST_IF, kNeutral),

    SHUNT_NAMED(kIpv6, IPV6_V6ONLY, kBefore),
    SHUNT_NAMED(kIpv6, IPV6_TCLASS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_UNICAST_HOPS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MULTICAST_IF, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MULTICAST_HOPS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MULTICAST_LOOP, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MULTICAST_ALL, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MTU_DISCOVER, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_MTU, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVERR, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_2292PKTINFO, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_2292HOPLIMIT, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVPKTINFO, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVHOPLIMIT, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVHOPOPTS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVRTHDR, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVDSTOPTS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVPATHMTU, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_RECVTCLASS, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_DONTFRAG, kKeep),
    SHUNT_NAMED(kIpv6, IPV6_AUTOFLOWLABEL, kKeep),
    entry(kIpv6, kIpv6AddrPreferences, kKeep, "IPV6_ADDR_PREFERENCES"),
    entry(kIpv6, kIpv6OrigDstAddr, kKeep, "IPV6_RECVORIGDSTADDR"),
    entry(kIpv6, kIpv6RecvFragSize, kKeep, "IPV6_RECVFRAGSIZE"),
    entry(kIpv6, kIpv6FreeBind, kKeep, "IPV6_FREEBIND"),
    entry(kIpv6, kIpv6MinHopCount, kNeutral, "IPV6_MINHOPCOUNT"),
    entry(kIpv6, kIpv6Transparent, kNeutral, "IPV6_TRANSPARENT"),
    entry(kIpv6, kIpv6UnicastIf, kNeutral, "IPV6_UNICAST_IF"),
};

#undef SHUNT_NAMED

constexpr int kOptionCount = sizeof kOptions / sizeof kOptions[0];
static_assert(kOptionCount <= kMaxOptions);

std::atomic<std::uint64_t> marks[kMaxOptions / 64];

const char* unknown_text(int level) {
  switch (level) {
    case SOL_SOCKET:
      return "SOL_SOCKET option";
    case IPPROTO_TCP:
      return "TCP option";
    case IPPROTO_IP:
      return "IP option";
    case IPPROTO_IPV6:
      return "IPv6 option";
    default:
      return "socket option";
  }
}

}  // namespace

const Option* options_table(int* count) {
  *count = kOptionCount;
  return kOptions;
}

int find_option(int level, int name) {
  for (int i = 0; i < kOptionCount; ++i) {
    if (kOptions[i].name == name && kOptions[i].level == level) return i;
  }
  return -1;
}

bool is_neutral(const Option& option, const void* value, socklen_t length) {
  if (length == 0 || value == nullptr) return true;
  const auto* bytes = static_cast<const unsigned char*>(value);
  if (option.level == SOL_SOCKET && option.name == SO_BINDTODEVICE) return bytes[0] == 0;
  const bool pacing = option.level == SOL_SOCKET && option.name == SO_MAX_PACING_RATE;
  const unsigned char off = pacing ? 0xff : 0;
  const socklen_t size = pacing && length >= 8 ? 8 : length < 4 ? 1 : 4;
  for (socklen_t i = 0; i < size; ++i) {
    if (bytes[i] != off) return false;
  }
  return true;
}

void mark_option(int index) {
  const std::uint64_t bit = std::uint64_t{1} << (index % 64);
  std::atomic<std::uint64_t>& word = marks[index / 64];
  // Relaxed: whoever sets up a connection from the socket comes after the call that set the option.
  if ((word.load(std::memory_order_relaxed) & bit) == 0) {
    word.fetch_or(bit, std::memory_order_relaxed);
  }
}

bool option_marked(int index) {
  return (marks[index / 64].load(std::memory_order_relaxed) >> (index % 64) & 1) != 0;
}

const char* option_forbids_shared_memory(int level, int name, const void* value, socklen_t length) {
  const int index = find_option(level, name);
  if (index < 0) return unknown_text(level);
  mark_option(index);
  // IP_TOS sets the priority too.
  if (level == IPPROTO_IP && name == IP_TOS) mark_option(find_option(SOL_SOCKET, SO_PRIORITY));
  const Option& option = kOptions[index];
  if (option.rule != OptionRule::kNeutral || is_neutral(option, value, length)) return nullptr;
  return option.text;
}

}  // namespace shunt::sockets
