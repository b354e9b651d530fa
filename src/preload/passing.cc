#include "preload/passing.h"

#include <string.h>

#include "sockets/holders/adopt.h"
#include "sockets/holders/inherit.h"

namespace shunt::preload {
namespace {

// Calls `visit(fd)` for each descriptor until one gives another result than 0. A control message that reaches
// beyond the buffer ends the walk: the kernel will refuse the call.
template <typename Visit>
long for_each_descriptor(const msghdr* message, Visit visit) {
  if (message->msg_control == nullptr || message->msg_controllen < sizeof(cmsghdr)) return 0;
  auto* m = const_cast<msghdr*>(message);
  const auto* end = static_cast<const unsigned char*>(m->msg_control) + m->msg_controllen;
  for (cmsghdr* c = CMSG_FIRSTHDR(m); c != nullptr; c = CMSG_NXTHDR(m, c)) {
    const auto room = static_cast<size_t>(end - reinterpret_cast<const unsigned char*>(c));
    if (c->cmsg_len < sizeof(cmsghdr) || c->cmsg_len > room) return 0;
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      const long r = visit(fd);
      if (r != 0) return r;
    }
  }
  return 0;
}

}  // namespace

long prepare_passing(const msghdr* message) {
  return for_each_descriptor(message, [](int fd) { return sockets::downgrade_for_passing(fd); });
}

void adopt_passed(msghdr* message) {
  for_each_descriptor(message, [](int fd) {
    sockets::adopt_plain(fd);
    return 0L;
  });
}

}  // namespace shunt::preload
