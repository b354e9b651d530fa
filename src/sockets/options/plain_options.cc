#include "sockets/options/plain_options.h"

#include <asm-generic/ioctls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sockets/options/connection_ioctl.h"
#include "sockets/options/option_store.h"
#include "sockets/options/options.h"
#include "sockets/options/plain_state.h"
#include "sockets/process/result.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// Kept by every socket, with the same rules for AF_UNIX and TCP.
bool common(int level, int name) {
  if (level != SOL_SOCKET) return false;
  const int stored = stored_name(level, name);
  return stored == SO_RCVTIMEO_OLD || stored == SO_SNDTIMEO_OLD || stored == SO_RCVLOWAT;
}

// Has an effect on an AF_UNIX socket too, but other limits and defaults.
bool felt_by_kernel(int level, int name) {
  const int stored = stored_name(level, name);
  return common(level, name) ||
         (level == SOL_SOCKET && (stored == SO_SNDBUF || stored == SO_RCVBUF));
}

long take_error(int fd, Socket* s, void* value, socklen_t* length) {
  int error = 0;
  {
    Hold hold(s->connection->state_lock);
    error = conn::take_error(s->connection->state);
  }
  if (error == 0) {
    socklen_t size = sizeof error;
    const long r = sys::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (r < 0) return r;
    if (error == ECONNRESET) note_plain_reset(s);
  }
  if (length == nullptr) return -EFAULT;
  const socklen_t size = std::min<socklen_t>(*length, sizeof error);
  if (size > 0) std::memcpy(value, &error, size);
  *length = size;
  return 0;
}

}  // namespace

long get_plain_option(int fd, Socket* s, int level, int name, void* value, socklen_t* length) {
  if (level == SOL_SOCKET && name == SO_ERROR) return take_error(fd, s, value, length);
  if (common(level, name)) return sys::getsockopt(fd, level, name, value, length);
  return get_connection_option(fd, s, level, name, value, length);
}

long set_plain_option(int fd, Socket* s, int level, int name, const void* value, socklen_t length) {
  const long r = set_connection_option(fd, s, level, name, value, length);
  if (r == 0 && felt_by_kernel(level, name)) sys::setsockopt(fd, level, name, value, length);
  return r;
}

Outcome plain_ioctl(int fd, Socket* s, unsigned long request, void* argument) {
  switch (request) {
    case FIONREAD:
    case TIOCOUTQ:  // of AF_UNIX: with the kernel's overhead, but 0 when the peer has read everything
    case FIOASYNC:
      return kPassOn;
    default:
      return connection_ioctl(fd, s, request, argument);
  }
}

long shutdown_plain(int fd, Socket* s, int how) {
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  if (plain_disconnected(fd, s)) return -ENOTCONN;
  {
    Hold hold(s->connection->state_lock);
    const int error = conn::on_shutdown(s->connection->state, how);
    if (error != 0) return -error;
    // An AF_UNIX peer would get EPIPE for what it goes on to send; a TCP peer does not, unless the sending
    // half is shut down too.
    if (how == SHUT_RD && !s->connection->state.write_shut) return 0;
  }
  return sys::raw(SYS_shutdown, fd, how);
}

}  // namespace shunt::sockets
