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

}  // namespace

int find_rendezvous(const wire::Endpoint& e, std::uint32_t interface, bool nonblocking,
                    wire::Reason* reason) {
  // Before any name is asked: whose it is says nothing about an address that belongs to another machine.
  *reason = wire::Reason::kNotInWindow;
  if (!is_local(e, interface)) return -1;
  wire::UnixName names[3];
  const int count = wire::rendezvous_candidates(e, names);
  const int bell =
      sys::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
  *reason = wire::Reason::kNoMemory;
  if (bell < 0) return -1;
  *reason = wire::Reason::kNoListener;
  for (int i = 0; i < count; ++i) {
    int r = 0;
    {
      const Undo undo([bell] { sys::close(bell); });
      const CancelPoint point;
      r = sys::connect(bell, &names[i].address, names[i].length);
    }
    if (r == 0) {
      if (trusted(bell, e)) return bell;
      *reason = wire::Reason::kUntrustedListener;
      break;
    }
    if (r == -EINTR) {
      sys::close(bell);
      return -EINTR;
    }
    if (r == -EAGAIN) {
      *reason = wire::Reason::kBacklogFull;
      break;
    }
  }
  sys::close(bell);
  return -1;
}

}  // namespace shunt::sockets
