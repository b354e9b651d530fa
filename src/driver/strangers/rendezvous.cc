#include "driver/strangers/rendezvous.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "sys/sock_diag.h"
#include "wire/rendezvous_name.h"

namespace shunt::driver {
namespace {

bool trusted_user(uid_t uid, const wire::Endpoint& destination) {
  if (uid == 0 || uid == ::geteuid()) return true;
  const auto listener =
      sys::tcp_listener_uid(destination.family, destination.address.data(), destination.port);
  return listener.ok() && listener.value() == uid;
}

bool trusted(int socket, const wire::Endpoint& destination, uid_t* uid) {
  ucred owner{};
  socklen_t length = sizeof owner;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &owner, &length) != 0) return false;
  *uid = owner.uid;
  return trusted_user(owner.uid, destination);
}

// Of somebody whose backlog is full.
bool trusted_name(const wire::UnixName& name, const wire::Endpoint& destination) {
  const auto uid =
      sys::unix_listener_uid(name.address.sun_path, name.length - offsetof(sockaddr_un, sun_path));
  return uid.ok() && trusted_user(uid.value(), destination);
}

}  // namespace

Rendezvous open_rendezvous(const wire::Endpoint& destination) {
  Rendezvous result;
  result.reason = wire::Reason::kNoListener;
  wire::UnixName names[3];
  const int count = wire::rendezvous_candidates(destination, names);
  for (int i = 0; i < count; ++i) {
    StrangerFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) {
      result.reason = wire::Reason::kNoMemory;
      return result;
    }
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&names[i].address),
                  names[i].length) != 0) {
      if (errno != EAGAIN) continue;  // ECONNREFUSED: nobody has this name
      if (!trusted_name(names[i], destination)) {
        result.reason = wire::Reason::kUntrustedListener;
        continue;
      }
      result.reason = wire::Reason::kBacklogFull;
      return result;
    }
    if (!trusted(socket.get(), destination, &result.owner)) {
      // Somebody squats on a more specific name: the listener's own may still be there.
      result.reason = wire::Reason::kUntrustedListener;
      continue;
    }
    result.socket = std::move(socket);
    result.reason = wire::Reason::kNone;
    return result;
  }
  return result;
}

}  // namespace shunt::driver
