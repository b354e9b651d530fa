#include "sockets/options/options.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sockets/options/option_model.h"
#include "sockets/options/option_rules.h"
#include "sockets/options/option_store.h"
#include "sockets/options/tcp_info.h"
#include "sockets/process/result.h"
#include "sockets/stream/stream.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::int32_t kTcp = IPPROTO_TCP;

// ---- setting ----

long store_int(Connection* c, const Option& option, std::int32_t value) {
  StoredOption o{option.level, option.name, sizeof value, {}};
  std::memcpy(o.value, &value, sizeof value);
  return store_option(c, o) ? 0 : -ENOBUFS;
}

// The options that programs set for every connection: what Linux does with them is plain.
long set_plain(Connection* c, const Option& option, const void* value, socklen_t length) {
  std::int32_t number = 0;
  if (length < sizeof number) return -EINVAL;
  if (value == nullptr) return -EFAULT;
  std::memcpy(&number, value, sizeof number);
  if (option.rule == OptionRule::kSwitch) return store_int(c, option, number != 0 ? 1 : 0);
  if (number < option.low || number > option.high) return -EINVAL;
  return store_int(c, option, number);
}

// Some limits depend on an option that was set before.
void prepare(Connection* c, int fresh, int level, int name) {
  StoredOption buffer;
  if (level != SOL_SOCKET || name != SO_RCVLOWAT) return;
  if (!load_option(c, SOL_SOCKET, SO_RCVBUF, &buffer)) return;
  const std::int32_t half = int_value(buffer) / 2;  // the kernel doubles what it is told
  sys::setsockopt(fresh, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
}

// Accepted by Linux on a connection, and without an effect that getsockopt would show.
bool shows_nothing(int level, int name) {
  return (level == kTcp && name == TCP_MAXSEG) || (level == IPPROTO_IPV6 && name == IPV6_MTU);
}

bool is_negative_timeout(int name, const void* value) {
  if (name != SO_RCVTIMEO_OLD && name != SO_SNDTIMEO_OLD) return false;
  std::int64_t seconds;
  std::memcpy(&seconds, value, sizeof seconds);
  return seconds < 0;
}

// The kernel's fresh socket has taken the option: keep what it made of the value.
long keep(Connection* c, int fresh, const Option& option, const void* value) {
  if (shows_nothing(option.level, option.name)) return 0;
  StoredOption o;
  if (!read_option(fresh, option.level, option.name, &o)) return 0;  // write-only: no more to know
  if (option.level == kTcp && option.name == TCP_WINDOW_CLAMP && int_value(o) == 0) return -EINVAL;
  if (!store_option(c, o)) return -ENOBUFS;
  if (option.rule == OptionRule::kField) {
    apply_option(c, o);
    // Linux: do not wait at all; it reads back as 0.
    if (o.level == SOL_SOCKET && is_negative_timeout(o.name, value)) {
      (o.name == SO_RCVTIMEO_OLD ? c->read_timeout_ns : c->write_timeout_ns) = 1;
    }
  }
  if (option.level == IPPROTO_IP && option.name == IP_TOS &&
      read_option(fresh, SOL_SOCKET, SO_PRIORITY, &o)) {
    store_option(c, o);
  }
  return 0;
}

// ---- asking ----

// The value as getsockopt of `level` hands it out into a buffer that may be too short.
long answer(int level, const void* from, std::uint32_t size, void* value, socklen_t* length) {
  std::int32_t number = 0;
  std::memcpy(&number, from, std::min<std::size_t>(size, sizeof number));
  socklen_t n = std::min(*length, size);
  // ip_getsockopt has a form for programs that use a char.
  const bool byte = level == IPPROTO_IP && size == sizeof number && n > 0 && n < sizeof number &&
                    number >= 0 && number <= 255;
  if (byte) n = 1;
  if (n > 0) std::memcpy(value, from, n);
  *length = n;
  return 0;
}

long answer_int(int level, std::int32_t number, void* value, socklen_t* length) {
  return answer(level, &number, sizeof number, value, length);
}

long answer_peer_name(Socket* s, void* value, socklen_t* length) {
  sockaddr_storage name{};
  const socklen_t size = wire::to_sockaddr(s->connection->remote, s->family, &name);
  if (size < *length) return -EINVAL;  // as Linux has it: not more than there is
  return answer(SOL_SOCKET, &name, *length, value, length);
}

long answer_segment(Socket* s, void* value, socklen_t* length) {
  std::int32_t bytes = connected_model(s->family).segment_bytes;
  StoredOption limit;
  if (load_option(s->connection, kTcp, TCP_MAXSEG, &limit)) {
    bytes = std::min(bytes, int_value(limit));
  }
  return answer_int(kTcp, bytes, value, length);
}

Outcome ask_socket_level(int fd, Socket* s, int name, void* value, socklen_t* length) {
  switch (name) {
    case SO_ERROR:
      return answer_int(SOL_SOCKET, take_socket_error(s), value, length);
    case SO_COOKIE:
      return sys::getsockopt(fd, SOL_SOCKET, SO_COOKIE, value, length);
    case SO_PEERNAME:
      return answer_peer_name(s, value, length);
    case SO_INCOMING_CPU: {
      std::uint32_t cpu = 0;
      sys::raw(SYS_getcpu, sys::arg(&cpu));
      return answer_int(SOL_SOCKET, static_cast<std::int32_t>(cpu), value, length);
    }
    default:
      return kPassOn;
  }
}

Outcome ask_other_level(int fd, Socket* s, int level, int name, void* value, socklen_t* length) {
  if (level == kTcp && name == TCP_INFO) {
    TcpInfoBytes info;
    const std::uint32_t size = make_tcp_info(fd, s, &info);
    return answer(kTcp, info.bytes, size, value, length);
  }
  if (level == kTcp && name == TCP_MAXSEG) return answer_segment(s, value, length);
  if (level == kTcp && name == TCP_ZEROCOPY_RECEIVE) return -ENOPROTOOPT;
  const bool v6 = s->family == AF_INET6;
  if ((level == IPPROTO_IP && name == IP_MTU) ||
      (level == IPPROTO_IPV6 && name == IPV6_MTU && v6)) {
    return answer_int(level, connected_model(s->family).mtu, value, length);
  }
  if (level == IPPROTO_IPV6 && name == IPV6_ADDRFORM && v6) {
    return answer_int(level, AF_INET6, value, length);
  }
  return kPassOn;
}

// Nobody set it; but a connected socket's default is not a fresh one's.
long ask_default(Socket* s, int level, int name, void* value, socklen_t* length) {
  if (level == SOL_SOCKET && name == SO_SNDBUF) {
    return answer_int(level, connected_model(s->family).send_buffer, value, length);
  }
  if (level == kTcp && name == TCP_WINDOW_CLAMP) {
    return answer_int(level, connected_model(s->family).window_clamp, value, length);
  }
  const FreshSocket fresh(s->family);
  if (fresh.fd() < 0) return -ENOBUFS;
  return sys::getsockopt(fresh.fd(), level, name, value, length);
}

}  // namespace

long set_connection_option(int /*fd*/, Socket* s, int level, int name, const void* value,
                           socklen_t length) {
  if (length > INT32_MAX) return -EINVAL;
  int count = 0;
  const Option* options = options_table(&count);
  const int index = find_option(level, name);
  const Option* option = index >= 0 ? &options[index] : nullptr;
  if (option != nullptr &&
      (option->rule == OptionRule::kSwitch || option->rule == OptionRule::kRange)) {
    return set_plain(s->connection, *option, value, length);
  }
  const FreshSocket fresh(s->family);
  if (fresh.fd() < 0) return -ENOBUFS;
  prepare(s->connection, fresh.fd(), level, name);
  const long result = sys::setsockopt(fresh.fd(), level, name, value, length);
  if (result < 0) return result;
  if (option == nullptr) return -ENOPROTOOPT;
  if (option->rule == OptionRule::kBefore) return -EINVAL;
  if (option->rule == OptionRule::kNeutral) {
    return is_neutral(*option, value, length) ? 0 : -EOPNOTSUPP;
  }
  return keep(s->connection, fresh.fd(), *option, value);
}

long get_connection_option(int fd, Socket* s, int level, int name, void* value, socklen_t* length) {
  if (length == nullptr) return -EFAULT;
  if (*length > INT32_MAX) return -EINVAL;
  if (value == nullptr && *length > 0) return -EFAULT;
  const Outcome by_hand = level == SOL_SOCKET ? ask_socket_level(fd, s, name, value, length)
                                              : ask_other_level(fd, s, level, name, value, length);
  if (by_hand != kPassOn) return by_hand.value();
  StoredOption stored;
  const bool write_only = level == SOL_SOCKET && (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE);
  if (!write_only && load_option(s->connection, level, stored_name(level, name), &stored)) {
    return answer(level, stored.value, stored.length, value, length);
  }
  return ask_default(s, level, name, value, length);
}

}  // namespace shunt::sockets
