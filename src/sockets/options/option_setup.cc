#include "sockets/options/option_setup.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include "sockets/options/option_rules.h"
#include "sockets/options/option_store.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::int32_t kUnsetSegment = 536;  // TCP_MAXSEG before a connection, unless set
constexpr std::int32_t kTimestampBytes = 12;
constexpr std::int32_t kSendBufferLocked = 1;  // SOCK_SNDBUF_LOCK
constexpr std::int32_t kSendBufferDefault = 16'384;

// Whether an unconnected socket's value is the program's. If not, the connected socket's default
// differs from it, and must not be hidden by it.
bool set_by_program(int tcp_fd, const StoredOption& o) {
  if (o.level == SOL_SOCKET && o.name == SO_SNDBUF) {
    StoredOption locks;
    if (read_option(tcp_fd, SOL_SOCKET, SO_BUF_LOCK, &locks)) {
      return (int_value(locks) & kSendBufferLocked) != 0;
    }
    return int_value(o) != kSendBufferDefault;
  }
  if (o.level == IPPROTO_TCP && o.name == TCP_MAXSEG) return int_value(o) != kUnsetSegment;
  if (o.level == IPPROTO_TCP && o.name == TCP_WINDOW_CLAMP) return int_value(o) != 0;
  return true;
}

void take_over(Connection* c, int tcp_fd, const Option& option) {
  StoredOption value;
  if (!read_option(tcp_fd, option.level, option.name, &value)) return;
  if (!set_by_program(tcp_fd, value)) return;
  if (option.level == IPPROTO_TCP && option.name == TCP_MAXSEG) {
    // A connected socket tells what is left for data in each segment.
    const std::int32_t left = int_value(value) - kTimestampBytes;
    __builtin_memcpy(value.value, &left, sizeof left);
  }
  store_option(c, value);
  if (option.rule == OptionRule::kField) apply_option(c, value);
}

void take_over_all(Connection* c, int tcp_fd, int family, bool inherited_only) {
  if (c->writer.limit == 0) c->write_end().set_limit(layout::kStreamBytes);
  int count = 0;
  const Option* options = options_table(&count);
  for (int i = 0; i < count; ++i) {
    const Option& o = options[i];
    if (!option_marked(i) || o.rule == OptionRule::kNeutral) continue;
    if (o.level == IPPROTO_IPV6 && family != AF_INET6) continue;
    if (inherited_only && !o.inherited) continue;
    take_over(c, tcp_fd, o);
  }
}

}  // namespace

void adopt_options(Connection* connection, int tcp_fd, int family) {
  take_over_all(connection, tcp_fd, family, false);
}

void inherit_options(Connection* connection, int listener_fd, int family) {
  take_over_all(connection, listener_fd, family, true);
  if (family == AF_INET6) {
    // Also without the program's doing: a listener bound to one IPv6 address has it on.
    StoredOption only;
    if (read_option(listener_fd, IPPROTO_IPV6, IPV6_V6ONLY, &only)) store_option(connection, only);
  }
}

}  // namespace shunt::sockets
