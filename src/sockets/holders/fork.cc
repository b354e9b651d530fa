#include "sockets/holders/fork.h"

#include "sockets/arenas/arena.h"
#include "sockets/bell/look.h"
#include "sockets/connection/peer_place.h"
#include "sockets/holders/last_close.h"
#include "sockets/process/identity.h"
#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sockets/setup/establish.h"
#include "sockets/setup/listener.h"
#include "sockets/wait/epoll_lifetime.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::int64_t kForkPatienceNs = 50'000'000;

// Of the descriptors of one socket, the lowest: to visit each socket once.
bool is_first(int fd, const Socket* s) {
  return s->refs.load(std::memory_order_relaxed) == 1 || next_descriptor(s, 0, -1) == fd;
}

// A connection whose CONNECTED has not come: after the fork only one of the processes will receive it,
// and the address where it maps the second area is in the page that both share. So wait a little for
// the accept() that is under way; else set the same addresses aside in both. The process that comes
// second finds nothing there: no stranger's memory is read or unmapped, but its use of the connection
// resets it.
void settle_second_area(int fd, Socket* s, std::int64_t deadline_ns) {
  Connection* c = s->connection;
  look_at_bell(fd, s);
  while (c->peer.load(std::memory_order_relaxed) == nullptr &&
         !c->gone_noticed.load(std::memory_order_relaxed) && sys::monotonic_ns() < deadline_ns) {
    // An answer by the area alone wakes nobody.
    pollfd p{fd, POLLIN, 0};
    constexpr timespec kPause{0, 1'000'000};
    sys::ppoll(&p, 1, &kPause, nullptr);
    look_at_bell(fd, s);
  }
  if (c->peer.load(std::memory_order_relaxed) == nullptr && c->reserved == nullptr) {
    reserve_for_peer(c);
  }
}

}  // namespace

void before_fork() {
  std::int64_t deadline_ns = sys::monotonic_ns() + kForkPatienceNs;
  connections_before_fork();
  for_each(
      [](int fd, Socket* s, void* deadline) {
        if (s->kind.load(std::memory_order_acquire) != Kind::kConnection) return;
        Connection* c = s->connection;
        if (c->peer.load(std::memory_order_relaxed) == nullptr) {
          settle_second_area(fd, s, *static_cast<std::int64_t*>(deadline));
        }
        if (is_first(fd, s)) c->holders.fetch_add(1, std::memory_order_relaxed);
      },
      &deadline_ns, 0, table_limit());
  arenas_before_fork();
  rouse_missed();
}

void before_exit() {
  std::int64_t deadline = sys::monotonic_ns() + kClosePatienceNs;
  for_each(
      [](int fd, Socket* s, void* until) {
        if (!is_first(fd, s)) return;
        const std::uint32_t others = s->refs.load(std::memory_order_relaxed) - 1;
        leave_with(fd, s, others, *static_cast<std::int64_t*>(until),
                   [](const Leave& /*leave*/) {});  // the kernel closes, later
      },
      &deadline, 0, table_limit());
}

void after_fork_in_parent() { connections_after_fork_in_parent(); }

void after_fork_in_child() {
  forget_thread_id();
  remember_process();
  sockets_after_fork();
  connections_after_fork();
  // Another thread of the parent has made it after before_fork() had counted.
  for_each(
      [](int fd, Socket* s, void*) {
        if (s->kind.load(std::memory_order_acquire) != Kind::kConnection || !is_first(fd, s))
          return;
        if (born_while_forking(s->connection))
          s->connection->holders.fetch_add(1, std::memory_order_relaxed);
      },
      nullptr, 0, table_limit());
  arenas_after_fork();
  epolls_after_fork();
  listeners_after_fork();
  status_after_fork();
}

}  // namespace shunt::sockets
