#include "sockets/setup/rendezvous.h"

#include <sys/time.h>

#include <cerrno>
#include <cstddef>

#include "sockets/setup/local_address.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"
#include "sys/sock_diag.h"
#include "wire/rendezvous_name.h"

namespace shunt::sockets {
namespace {

bool trusted_user(std::uint32_t uid, const wire::Endpoint& e) {
  if (uid == 0 || uid == sys::geteuid()) return true;
  const Result<std::uint32_t> owner = sys::tcp_listener_uid(e.family, e.address.data(), e.port);
  return owner.ok() && owner.value() == uid;
}

bool trusted(int bell, const wire::Endpoint& e, LinkKey* listener) {
  ucred cred{};
  socklen_t length = sizeof cred;
  if (sys::getsockopt(bell, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return false;
  *listener = {cred.pid, cred.uid, 0, e};
  return trusted_user(cred.uid, e);
}

// Of somebody whose backlog is full, and who can be asked for his name only. Where the kernel does not say who he is,
// he is a stranger.
bool trusted_name(const wire::UnixName& name, const wire::Endpoint& e) {
  const auto uid =
      sys::unix_listener_uid(name.address.sun_path, name.length - offsetof(sockaddr_un, sun_path));
  return uid.ok() && trusted_user(uid.value(), e);
}

int connect_bell(int bell, const wire::UnixName& name) {
  const Undo undo([bell] { sys::close(bell); });
  const CancelPoint point;
  return sys::connect(bell, &name.address, name.length);
}

// Waits for room in a backlog, as long as SO_SNDTIMEO of the program's socket `fd` lets it. No stranger may make
// anybody do that: whose it is was found out just before. The kernel's own wait, so that a signal interrupts it or
// not as the program asked for.
int wait_for_room(int bell, const wire::UnixName& name, int fd) {
  timeval limit{};
  socklen_t length = sizeof limit;
  sys::getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &length);
  sys::fcntl(bell, F_SETFL, 0);
  sys::setsockopt(bell, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const int r = connect_bell(bell, name);
  constexpr timeval kNone{};
  sys::setsockopt(bell, SOL_SOCKET, SO_SNDTIMEO, &kNone, sizeof kNone);
  return r;
}

// A bell connected to `name` and to somebody trusted. -ECONNREFUSED: nobody has the name;
// -EPERM: a stranger has; -EAGAIN: the backlog is full; -EINTR; -ENOMEM: no descriptor.
int reach(const wire::UnixName& name, const wire::Endpoint& e, int fd, bool nonblocking,
          LinkKey* listener) {
  const int bell = sys::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bell < 0) return -ENOMEM;
  int r = connect_bell(bell, name);
  if (r == -EAGAIN && !trusted_name(name, e)) r = -EPERM;
  if (r == -EAGAIN && !nonblocking) r = wait_for_room(bell, name, fd);
  if (r == 0 && trusted(bell, e, listener)) return bell;
  sys::close(bell);
  return r == 0 ? -EPERM : r;
}

}  // namespace

int find_rendezvous(int fd, const wire::Endpoint& destination, bool nonblocking, LinkKey* listener,
                    wire::Reason* reason) {
  // Before any name is asked: whose it is says nothing about an address that belongs to another machine.
  *reason = wire::Reason::kNotInWindow;
  if (!is_local(destination)) return -1;
  wire::UnixName names[3];
  const int count = wire::rendezvous_candidates(destination, names);
  *reason = wire::Reason::kNoListener;
  for (int i = 0; i < count; ++i) {
    const int bell = reach(names[i], destination, fd, nonblocking, listener);
    if (bell >= 0 || bell == -EINTR) return bell;
    if (bell == -EAGAIN || bell == -ENOMEM) {
      *reason = bell == -EAGAIN ? wire::Reason::kBacklogFull : wire::Reason::kNoMemory;
      return -1;
    }
    // A stranger's name: the listener's own may be one of the others.
    if (bell == -EPERM) *reason = wire::Reason::kUntrustedListener;
  }
  return -1;
}

}  // namespace shunt::sockets
