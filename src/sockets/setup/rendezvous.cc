#include "sockets/setup/rendezvous.h"

#include <cerrno>

#include "sockets/setup/local_address.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"
#include "sys/sock_diag.h"
#include "wire/rendezvous_name.h"

namespace shunt::sockets {
namespace {

bool trusted(int bell, const wire::Endpoint& e) {
  ucred cred{};
  socklen_t length = sizeof cred;
  if (sys::getsockopt(bell, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return false;
  if (cred.uid == 0 || cred.uid == sys::geteuid()) return true;
  const Result<std::uint32_t> owner = sys::tcp_listener_uid(e.family, e.address.data(), e.port);
  return owner.ok() && owner.value() == cred.uid;
}

// A bell connected to `name` and to somebody trusted. -ECONNREFUSED: nobody has the name; -EPERM: a stranger has;
// -EAGAIN: the backlog is full; -EINTR; -ENOMEM: no descriptor.
int reach(const wire::UnixName& name, const wire::Endpoint& e, bool nonblocking) {
  const int bell =
      sys::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
  if (bell < 0) return -ENOMEM;
  int r = 0;
  {
    const Undo undo([bell] { sys::close(bell); });
    const CancelPoint point;
    r = sys::connect(bell, &name.address, name.length);
  }
  if (r == 0 && trusted(bell, e)) return bell;
  sys::close(bell);
  return r == 0 ? -EPERM : r;
}

}  // namespace

int find_rendezvous(const wire::Endpoint& e, std::uint32_t interface, bool nonblocking,
                    wire::Reason* reason) {
  // Before any name is asked: whose it is says nothing about an address that belongs to another machine.
  *reason = wire::Reason::kNotInWindow;
  if (!is_local(e, interface)) return -1;
  wire::UnixName names[3];
  const int count = wire::rendezvous_candidates(e, names);
  *reason = wire::Reason::kNoListener;
  for (int i = 0; i < count; ++i) {
    const int bell = reach(names[i], e, nonblocking);
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
