// Descriptors that leave for another program: which of them are downgraded, and when. See downgrade.h.
#include "sockets/downgrade.h"
#include "sockets/establish.h"
#include "sockets/listener.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// 0: nothing in the way of handing `fd` on. With the socket pinned.
long prepare(int fd, Socket* s) {
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kListener) share_listener(fd, s);
  if (kind != Kind::kConnection || !names_bell(fd, s)) return 0;
  return downgrade(fd, s);
}

struct Walk {
  const Socket* stuck;  // cannot be downgraded: not tried again for each of its descriptors
};

// In a vfork child the table is the parent's, but the kernel answers for the child's descriptors.
void hand_on(int fd, Socket* seen, void* context) {
  const Kind kind = seen->kind.load(std::memory_order_acquire);
  if (kind != Kind::kConnection && kind != Kind::kListener) return;
  const int flags = sys::fcntl(fd, F_GETFD);
  if (flags < 0 || (flags & FD_CLOEXEC) != 0) return;
  auto* walk = static_cast<Walk*>(context);
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return;
  if (s == walk->stuck || prepare(fd, s) != 0) {
    walk->stuck = s;
    sys::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
  }
  unpin(s);
}

}  // namespace

void downgrade_inherited() {
  Walk walk{nullptr};
  for_each(hand_on, &walk, 0, table_limit());
}

long downgrade_for_passing(int fd) {
  Socket* s = lookup_pinned(fd);
  if (s == nullptr) return 0;
  const long r = prepare(fd, s);
  unpin(s);
  return r;
}

}  // namespace shunt::sockets
