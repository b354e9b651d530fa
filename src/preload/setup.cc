// Making, naming, connecting and asking about sockets.
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "preload/call.h"
#include "preload/libc.h"
#include "sockets/options/option_rules.h"
#include "sockets/options/options.h"
#include "sockets/options/plain_options.h"
#include "sockets/options/plain_state.h"
#include "sockets/setup/connect.h"
#include "sockets/setup/listener.h"
#include "sockets/stream/stream.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::preload {
namespace {

using sockets::Kind;
using sockets::Socket;

constexpr int kMptcp = 262;  // what some runtimes listen with by default

bool is_tcp(int domain, int type, int protocol) {
  return (domain == AF_INET || domain == AF_INET6) &&
         (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
         (protocol == 0 || protocol == IPPROTO_TCP || protocol == kMptcp);
}

int give_name(const wire::Endpoint& endpoint, std::uint16_t family, sockaddr* address,
              socklen_t* length) {
  if (bad_range(length, sizeof *length) || bad_range(address, *length)) return finish(-EFAULT);
  if (static_cast<int>(*length) < 0) return finish(-EINVAL);
  sockaddr_storage storage;
  const socklen_t size = wire::to_sockaddr(endpoint, family, &storage);
  memcpy(address, &storage, std::min(*length, size));
  *length = size;
  return 0;
}

// Another thread waits in connect(): to the kernel the socket is merely bound meanwhile.
bool is_connecting(int fd) {
  Socket* s = of_kind(fd, Kind::kTcp);
  if (s == nullptr) return false;
  if (!s->connecting.try_acquire()) return true;
  s->connecting.release();
  return false;
}

int connect_pinned(int fd, Socket* s, const sockaddr* address, socklen_t length) {
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind != Kind::kTcp && kind != Kind::kConnection && kind != Kind::kPlain)
    return libc().connect(fd, address, length);
  if (bad_range(address, length)) return libc().connect(fd, address, length);
  const sockets::Outcome r = sockets::connect_socket(fd, s, address, length);
  if (r != sockets::kPassOn) return finish(r);
  const int result = libc().connect(fd, address, length);
  if (result == 0 || errno == EINPROGRESS) {
    const int saved = errno;
    sockets::connected_by_kernel(fd, s);
    errno = saved;
  }
  return result;
}

int connect_any(int fd, const sockaddr* address, socklen_t length) {
  // Pinned: a close() meanwhile in another thread must find what connect() has made of the socket.
  Socket* s = sockets::lookup_pinned(fd);
  if (s == nullptr) return libc().connect(fd, address, length);
  int result = 0;
  {
    const sockets::Undo undo([s] { sockets::unpin(s); });
    result = connect_pinned(fd, s, address, length);
  }
  sockets::unpin(s);
  return result;
}

int accept_any(int fd, sockaddr* address, socklen_t* length, int flags, bool four) {
  if (of_kind(fd, Kind::kListener) != nullptr) {
    // Pinned: a close() in another thread does not take the listener away under a call that uses it.
    if (Socket* s = sockets::lookup_pinned(fd)) {
      const bool listener = s->kind.load(std::memory_order_acquire) == Kind::kListener;
      long r = -EBADF;
      if (listener) {
        const sockets::Undo undo([s] { sockets::unpin(s); });
        r = sockets::accept_socket(fd, s, address, length, flags);
      }
      sockets::unpin(s);
      return finish(r);
    }
  }
  const int r =
      four ? libc().accept4(fd, address, length, flags) : libc().accept(fd, address, length);
  if (r >= 0) {
    // A listener without a rendezvous: its connections are shown with the listener's reason.
    if (Socket* s = of_kind(fd, Kind::kTcp)) {
      sockets::accepted_by_kernel(r, s->family, wire::Reason::kOrdinaryPeer);
    }
  }
  return r;
}

}  // namespace
}  // namespace shunt::preload

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT int socket(int domain, int type, int protocol) noexcept {
  const int fd = libc().socket(domain, type, protocol);
  if (fd >= 0 && is_tcp(domain, type, protocol)) {
    sockets::enter(fd, sockets::Kind::kTcp, static_cast<std::uint16_t>(domain));
  }
  return fd;
}

SHUNT_EXPORT int listen(int fd, int backlog) noexcept {
  if (stand_in_at(fd) != nullptr || is_connecting(fd)) return finish(-EINVAL);
  const int r = libc().listen(fd, backlog);
  if (r == 0) {
    if (sockets::Socket* s = of_kind(fd, sockets::Kind::kTcp)) sockets::listening(fd, s, backlog);
  }
  return r;
}

SHUNT_EXPORT int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  if (stand_in_at(fd) != nullptr) return finish(-EINVAL);
  return libc().bind(fd, address, length);
}

SHUNT_EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  return accept_any(fd, address, length, 0, false);
}

SHUNT_EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  return accept_any(fd, address, length, flags, true);
}

SHUNT_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  return connect_any(fd, address, length);
}

SHUNT_EXPORT int __connect(int fd, const sockaddr* address, socklen_t length) {
  return connect_any(fd, address, length);
}

SHUNT_EXPORT int shutdown(int fd, int how) noexcept {
  const sockets::Outcome r =
      on_connection(fd, [&](sockets::Socket* s) { return sockets::shutdown_stream(fd, s, how); });
  if (r != sockets::kPassOn) return finish(r);
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kListener)) {
    return finish(sockets::shutdown_listener(fd, s, how));
  }
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kPlain)) {
    return finish(sockets::shutdown_plain(fd, s, how));
  }
  return libc().shutdown(fd, how);
}

SHUNT_EXPORT int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (sockets::Socket* s = stand_in_at(fd)) {
    return give_name(s->connection->local, s->family, address, length);
  }
  return libc().getsockname(fd, address, length);
}

SHUNT_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kConnection)) {
    if (s->connection->state.dead) return finish(-ENOTCONN);
    return give_name(s->connection->remote, s->family, address, length);
  }
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kPlain)) {
    if (sockets::plain_disconnected(fd, s)) return finish(-ENOTCONN);
    return give_name(s->connection->remote, s->family, address, length);
  }
  return libc().getpeername(fd, address, length);
}

SHUNT_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kConnection)) {
    return finish(sockets::get_connection_option(fd, s, level, name, value, length));
  }
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kPlain)) {
    return finish(sockets::get_plain_option(fd, s, level, name, value, length));
  }
  return libc().getsockopt(fd, level, name, value, length);
}

SHUNT_EXPORT int setsockopt(int fd, int level, int name, const void* value,
                            socklen_t length) noexcept {
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kConnection)) {
    return finish(sockets::set_connection_option(fd, s, level, name, value, length));
  }
  if (sockets::Socket* s = of_kind(fd, sockets::Kind::kPlain)) {
    return finish(sockets::set_plain_option(fd, s, level, name, value, length));
  }
  const int r = libc().setsockopt(fd, level, name, value, length);
  if (r == 0) {
    sockets::Socket* s = of_kind(fd, sockets::Kind::kTcp);
    if (s == nullptr) s = of_kind(fd, sockets::Kind::kListener);
    if (s != nullptr) {
      const char* forbidden = sockets::option_forbids_shared_memory(level, name, value, length);
      if (forbidden != nullptr) {
        s->forbidden = true;
        s->reason = wire::Reason::kUnsupportedOption;
        s->detail = forbidden;
      }
    }
  }
  return r;
}
