#include "sockets/setup/listener.h"

#include <netinet/in.h>
#include <sys/resource.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "layout/arena.h"
#include "sockets/options/option_rules.h"
#include "sockets/process/config.h"
#include "sockets/process/status.h"
#include "sockets/setup/accept_handshake.h"
#include "sockets/setup/establish.h"
#include "sockets/thread/signals.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"
#include "wire/rendezvous_name.h"

namespace shunt::sockets {
namespace {

constexpr int kMinBacklog = 128;
constexpr int kTakenAtOnce = 256;
constexpr timespec kConnectOnItsWay{0, 1'000'000};
constexpr std::size_t kListenerBytes = 4096;
static_assert(sizeof(Listener) <= kListenerBytes);

int int_option(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  return sys::getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

bool watch(int waiter, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  return sys::epoll_ctl(waiter, EPOLL_CTL_ADD, fd, &event) == 0;
}

// A program at its limit may have one descriptor left, which the bell has now; the first connection of a client's arena
// needs another one for a moment.
void make_spare(Listener* l) {
  const int fd = sys::fcntl(l->rendezvous, F_DUPFD_CLOEXEC, 3);
  l->spare = fd > 0 ? sys::move_high(fd) : 0;
}

// Whether it is foreseeable that there will be no memory for clients whose connect() has succeeded: the process may not
// make files of an area's size, or has few addresses.
bool too_narrow() {
  constexpr rlim_t kAddresses = rlim_t{64} << 30;
  rlimit limit{};
  sys::raw(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, sys::arg(&limit));
  if (limit.rlim_cur < layout::ArenaShape{1}.bytes()) return true;
  sys::raw(SYS_prlimit64, 0, RLIMIT_AS, 0, sys::arg(&limit));
  return limit.rlim_cur < kAddresses;
}

wire::Reason open_rendezvous(Listener* l, int fd, int backlog) {
  if (too_narrow()) return wire::Reason::kNoMemory;
  int rendezvous = sys::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (rendezvous < 0) return wire::Reason::kNoMemory;
  rendezvous = sys::move_high(rendezvous);
  const wire::UnixName name = wire::rendezvous_name(l->local, l->dual_stack);
  if (sys::bind(rendezvous, &name.address, name.length) != 0) {
    sys::close(rendezvous);
    // Of several listeners on one port, the first serves the clients under Shunt.
    return int_option(fd, SOL_SOCKET, SO_REUSEPORT) != 0 ? wire::Reason::kReusePort
                                                         : wire::Reason::kNameTaken;
  }
  int waiter = sys::epoll_create1(EPOLL_CLOEXEC);
  if (waiter >= 0) waiter = sys::move_high(waiter);
  if (waiter < 0 || !watch(waiter, fd) || !watch(waiter, rendezvous) ||
      sys::listen(rendezvous, std::max(backlog, kMinBacklog)) != 0) {
    if (waiter >= 0) sys::close(waiter);
    sys::close(rendezvous);
    return wire::Reason::kNoMemory;
  }
  l->rendezvous = rendezvous;
  l->watched = fd;
  make_spare(l);
  l->waiter = waiter;
  return wire::Reason::kNone;
}

// Of so many accepts one looks for an ordinary client first.
constexpr std::uint32_t kOrdinaryTurn = 8;
constexpr int kYields = 2;

// Of descriptors or memory: the client waits, as it would in TCP's backlog.
bool is_short(long result) { return result == -EMFILE || result == -ENOMEM; }

// Out of the list, which stays in the order of arrival.
void remove_pending(Listener* l, int index) {
  --l->pending_count;
  for (int i = index; i < l->pending_count; ++i) l->pending[i] = l->pending[i + 1];
}

long finish(int bell, int listener_fd, Socket* s, int flags, bool relocate) {
  Listener* l = s->listener;
  long fd = finish_handshake(bell, listener_fd, s, flags, relocate);
  if (!is_short(fd)) return fd;
  if (l->spare > 0) sys::close(l->spare);
  l->spare = 0;
  fd = finish_handshake(bell, listener_fd, s, flags, relocate);
  make_spare(l);
  return fd;
}

// Accepts on the rendezvous and completes whatever CONNECT is at hand. The new descriptor, -EAGAIN,
// or another -errno of accept4 (EMFILE, ...).
long accept_shunted(int listener_fd, Socket* s, int flags) {
  assert(s->lock.held_by_me());
  Listener* l = s->listener;
  for (int i = 0; i < l->pending_count; ++i) {
    const long fd = finish(l->pending[i], listener_fd, s, flags, true);
    if (fd == -EAGAIN) continue;
    if (is_short(fd)) return fd;  // first come, first served
    remove_pending(l, i--);
    if (fd >= 0) return fd;
  }
  // Bounded, so that whoever connects faster than we accept cannot keep ordinary clients waiting.
  for (int taken = 0; taken < kTakenAtOnce; ++taken) {
    const int bell = sys::accept4(l->rendezvous, nullptr, nullptr, flags);
    if (bell == -EINTR || bell == -ECONNABORTED) continue;
    if (bell < 0) return bell;
    long fd = finish(bell, listener_fd, s, flags, false);
    // The client is between its connect() and the message, on this very processor perhaps: it needs that for some
    // microseconds only.
    for (int i = 0; i < kYields && fd == -EAGAIN; ++i) {
      sys::sched_yield();
      fd = finish(bell, listener_fd, s, flags, false);
    }
    if (fd == -EAGAIN) {
      // The other side sends it microseconds after its connect(). Set aside, it could be served by
      // this process only, and would keep waking all that share the listener.
      pollfd p{bell, POLLIN, 0};
      sys::ppoll(&p, 1, &kConnectOnItsWay, nullptr);
      fd = finish(bell, listener_fd, s, flags, false);
    }
    if (fd >= 0) return fd;
    if (fd != -EAGAIN && !is_short(fd)) continue;
    // Its CONNECT is on the way, or descriptors or memory are short. Keep it where a wait sees it; the oldest gives
    // way, which is none that is short: of those there is one, and it is asked for first.
    if (l->pending_count == kMaxPending) {
      sys::close(l->pending[0]);
      remove_pending(l, 0);
    }
    const int high = sys::move_high(bell);
    watch(l->waiter, high);
    l->pending[l->pending_count++] = high;
    if (is_short(fd)) return fd;
  }
  return -EAGAIN;
}

// Never sleeps, although a listener that is shared with another program may be a blocking one. It is looked at
// first, so that the other program finds it changed only while there is somebody to accept.
int accept_at_once(int fd, int flags) {
  const int kernel_flags = sys::fcntl(fd, F_GETFL);
  if (kernel_flags < 0 || (kernel_flags & O_NONBLOCK) != 0) {
    return sys::accept4(fd, nullptr, nullptr, flags);
  }
  pollfd p{fd, POLLIN, 0};
  const timespec now{0, 0};
  if (sys::ppoll(&p, 1, &now, nullptr) != 1) return -EAGAIN;
  sys::fcntl(fd, F_SETFL, kernel_flags | O_NONBLOCK);
  const int accepted = sys::accept4(fd, nullptr, nullptr, flags);
  sys::fcntl(fd, F_SETFL, kernel_flags);
  return accepted;
}

// Whether the kernel's listener has a client.
bool has_ordinary(const Listener* l) {
  epoll_event ready[4];
  const timespec now{0, 0};
  const int n = sys::epoll_pwait2(l->waiter, ready, 4, &now, nullptr);
  for (int i = 0; i < n; ++i) {
    if (ready[i].data.fd == l->watched) return true;
  }
  return n == 4 || n < 0;  // more than fit here, or nobody knows
}

long accept_ordinary(int fd, Socket* s, int flags) {
  const int accepted = accept_at_once(fd, flags);
  if (accepted >= 0) accepted_by_kernel(accepted, s->family, wire::Reason::kOrdinaryPeer);
  return accepted;
}

void give_peer_address(int accepted, std::uint16_t family, sockaddr* address, socklen_t* length) {
  if (address == nullptr || length == nullptr) return;
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const Socket* s = lookup(accepted);
  if (s != nullptr && s->kind.load(std::memory_order_acquire) == Kind::kConnection) {
    size = wire::to_sockaddr(s->connection->remote, family, &storage);
  } else if (sys::getpeername(accepted, &storage, &size) != 0) {
    size = 0;
  }
  __builtin_memcpy(address, &storage, std::min<std::size_t>(*length, size));
  *length = size;
}

void close_listener(Socket* s) {
  Listener* l = s->listener;
  s->listener = nullptr;
  for (int i = 0; i < l->pending_count; ++i) sys::close(l->pending[i]);
  sys::close(l->rendezvous);
  sys::close(l->waiter);
  l->signals.close();
  if (l->spare > 0) sys::close(l->spare);
  sys::munmap(l, kListenerBytes);
}

}  // namespace

void listening(int fd, Socket* s, int backlog) {
  Hold hold(s->lock);
  if (!hold.owns() || s->kind.load(std::memory_order_acquire) != Kind::kTcp) return;
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (sys::getsockname(fd, &address, &length) != 0) return;
  const auto local = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
  if (!local.ok()) return;
  void* memory = sys::mmap(nullptr, kListenerBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  wire::Reason reason = s->forbidden ? s->reason : wire::Reason::kNoMemory;
  auto* l = static_cast<Listener*>(memory);
  if (l != nullptr) {
    l->close = close_listener;
    l->local = local.value();
    l->dual_stack = s->family == AF_INET6 && int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
    if (!s->forbidden) reason = open_rendezvous(l, fd, backlog);
    if (reason != wire::Reason::kNone) {
      sys::munmap(memory, kListenerBytes);
    }
  }
  if (reason == wire::Reason::kNone) {
    const int kernel_flags = sys::fcntl(fd, F_GETFL);
    l->program_nonblocking = (kernel_flags & O_NONBLOCK) != 0;
    sys::fcntl(fd, F_SETFL, kernel_flags | O_NONBLOCK);
    detach_registrations(s);
    s->listener = l;
    s->kind.store(Kind::kListener, std::memory_order_release);
    attach_registrations(s);
  }
  report(s, {.state = layout::EntryState::kListening,
             .via = reason == wire::Reason::kNone ? layout::EntryVia::kSharedMemory
                                                  : layout::EntryVia::kKernel,
             .reason = reason,
             .detail = s->detail,
             .local = local.value(),
             .peer = {},
             .peer_partition = nullptr});
}

long accept_socket(int fd, Socket* s, sockaddr* address, socklen_t* length, int flags) {
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return -EINVAL;
  std::int64_t timeout_ns = -1;
  const std::uint16_t family = s->family;
  for (bool woken = false;; woken = true) {
    long accepted = -EAGAIN;
    bool nonblocking = false;
    int waiter = -1;
    {
      Hold hold(s->lock);
      if (!hold.owns()) return -EAGAIN;
      if (lookup(fd) != s || s->listener == nullptr) return -EBADF;
      Listener* l = s->listener;
      nonblocking = l->program_nonblocking;
      waiter = l->waiter;
      if (++l->turn % kOrdinaryTurn == 0) accepted = accept_ordinary(fd, s, flags);
      if (accepted == -EAGAIN) accepted = accept_shunted(fd, s, flags);
      // One that would wait looks only when it is told that there is somebody.
      if (accepted == -EAGAIN && (woken || (nonblocking && has_ordinary(l))))
        accepted = accept_ordinary(fd, s, flags);
    }
    if (accepted >= 0) {
      give_peer_address(static_cast<int>(accepted), family, address, length);
      return accepted;
    }
    if (accepted != -EAGAIN || nonblocking) return accepted;
    if (timeout_ns < 0) {
      const bool may_have = option_marked(find_option(SOL_SOCKET, SO_RCVTIMEO));
      timeout_ns = may_have ? receive_timeout_ns(fd) : 0;
    }
    const long r = wait_readable_restarting(waiter, timeout_ns, &s->listener->signals);
    if (r < 0) return r;
  }
}

void share_listener(int fd, Socket* s) {
  Hold hold(s->lock);
  const Listener* l = s->listener;
  // In a vfork child the number may name something else.
  if (l == nullptr || l->program_nonblocking || int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0)
    return;
  const int kernel_flags = sys::fcntl(fd, F_GETFL);
  if (kernel_flags >= 0) sys::fcntl(fd, F_SETFL, kernel_flags & ~O_NONBLOCK);
}

void leave_rendezvous(int fd, Socket* s) {
  Hold hold(s->lock);
  const Listener* l = s->listener;
  if (l == nullptr || int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0) return;
  sys::raw(SYS_shutdown, l->rendezvous, SHUT_RDWR);
}

long shutdown_listener(int fd, Socket* s, int how) {
  Hold hold(s->lock);
  const long r = sys::raw(SYS_shutdown, fd, how);
  // From now on refused, as the kernel refuses ordinary clients.
  if (r == 0 && how != SHUT_WR && lookup(fd) == s && s->listener != nullptr) {
    sys::raw(SYS_shutdown, s->listener->rendezvous, SHUT_RDWR);
  }
  return r;
}

void listeners_after_fork() {
  for_each(
      [](int, Socket* s, void*) {
        Listener* l = s->listener;
        if (l == nullptr) return;
        for (int i = 0; i < l->pending_count; ++i) sys::close(l->pending[i]);
        l->pending_count = 0;
      },
      nullptr, 0, table_limit());
}

void accepted_by_kernel(int fd, std::uint16_t family, wire::Reason reason) {
  if (Socket* s = enter(fd, Kind::kTcp, family)) install_kernel(fd, s, reason, nullptr);
}

}  // namespace shunt::sockets
