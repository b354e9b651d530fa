#include "sockets/options/plain_options.h"

#include <asm-generic/ioctls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sockets/options/option_store.h"
#include "sockets/options/options.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint8_t kEstablished = 1;
constexpr std::uint8_t kFinWait2 = 5;
constexpr std::uint8_t kClose = 7;
constexpr std::uint8_t kCloseWait = 8;

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

short kernel_events(int fd) {
  pollfd p{fd, POLLIN | POLLRDHUP, 0};
  const timespec now{0, 0};
  return sys::ppoll(&p, 1, &now, nullptr) == 1 ? p.revents : short{0};
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

long plain_ioctl(int fd, Socket* s, unsigned long request, void* argument) {
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

bool plain_disconnected(int fd, Socket* s) {
  const conn::State& state = s->connection->state;
  if (state.dead) return true;
  const short events = kernel_events(fd);
  return (events & POLLERR) != 0 || ((events & POLLHUP) != 0 && state.write_shut);
}

void note_plain_reset(Socket* s) {
  Hold hold(s->connection->state_lock);
  s->connection->state.dead = true;
}

std::uint8_t plain_tcp_state(int fd, Socket* s) {
  if (plain_disconnected(fd, s)) return kClose;
  const bool write_shut = s->connection->state.write_shut;
  if ((kernel_events(fd) & (POLLHUP | POLLRDHUP)) != 0) return write_shut ? kClose : kCloseWait;
  return write_shut ? kFinWait2 : kEstablished;
}

}  // namespace shunt::sockets
