// Closing, moving and multiplying descriptors; stdio streams over connections; processes.
#include "sockets/holders/descriptors.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "preload/call.h"
#include "preload/libc.h"
#include "sockets/holders/adopt.h"
#include "sockets/holders/fork.h"
#include "sockets/options/connection_ioctl.h"
#include "sockets/options/plain_options.h"
#include "sockets/process/config.h"
#include "sockets/process/identity.h"
#include "sockets/thread/cancel.h"
#include "sockets/thread/spin.h"
#include "sys/kernel.h"

namespace shunt::preload {
namespace {

using sockets::kPassOn;

int close_any(int fd) {
  const sockets::Outcome r = sockets::close_descriptor(fd);
  return r == kPassOn ? libc().close(fd) : finish(r);
}

int dup2_any(int from, int to) {
  if (from == to) return libc().dup2(from, to);
  const sockets::Outcome r = sockets::duplicate_to(from, to, 0);
  return r == kPassOn ? libc().dup2(from, to) : finish(r);
}

int fcntl_any(int fd, int command, long argument) {
  sockets::Socket* s = sockets::lookup(fd);
  const sockets::Outcome r =
      s == nullptr ? kPassOn : sockets::control_descriptor(fd, s, command, argument);
  return r == kPassOn ? libc().fcntl(fd, command, argument) : finish(r);
}

// stdio over a shunted connection: libc's own file operations would bypass us.
struct Cookie {
  int fd;
};
ssize_t cookie_read(void* cookie, char* data, size_t size) {
  return ::read(static_cast<Cookie*>(cookie)->fd, data, size);
}
ssize_t cookie_write(void* cookie, const char* data, size_t size) {
  const ssize_t n = ::write(static_cast<Cookie*>(cookie)->fd, data, size);
  return n < 0 ? 0 : n;  // what fopencookie takes for an error
}
int cookie_close(void* cookie) {
  const int fd = static_cast<Cookie*>(cookie)->fd;
  free(cookie);
  return ::close(fd);
}

int vdprintf_any(int fd, const char* format, va_list arguments) {
  if (of_kind(fd, sockets::Kind::kConnection) == nullptr) {
    return libc().vdprintf(fd, format, arguments);
  }
  char* text = nullptr;
  const int length = vasprintf(&text, format, arguments);
  if (length < 0) return -1;
  int done = 0;
  while (done < length) {
    const sockets::Undo undo([text] { free(text); });
    const ssize_t n = ::write(fd, text + done, static_cast<size_t>(length - done));
    if (n < 0) break;
    done += static_cast<int>(n);
  }
  free(text);
  return done == length ? length : -1;
}

void start() {
  libc();
  sockets::read_config();
  sockets::calibrate_clock();
  sockets::remember_process();
  sockets::start_status();
  sockets::adopt_inherited();
  pthread_atfork(sockets::before_fork, sockets::after_fork_in_parent, sockets::after_fork_in_child);
}

__attribute__((constructor(101))) void load() {
  const int saved = errno;
  start();
  errno = saved;
}

__attribute__((destructor)) void unload() {
  const int saved = errno;
  sockets::before_exit();
  errno = saved;
}

}  // namespace
}  // namespace shunt::preload

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT int close(int fd) { return close_any(fd); }
SHUNT_EXPORT int __close(int fd) { return close_any(fd); }

SHUNT_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  const sockets::Outcome r = sockets::close_descriptors(first, last, flags);
  return r == kPassOn ? libc().close_range(first, last, flags) : finish(r);
}
SHUNT_EXPORT void closefrom(int lowest) noexcept {
  if (sockets::close_descriptors(lowest < 0 ? 0 : static_cast<unsigned>(lowest), ~0U, 0) ==
      kPassOn) {
    libc().closefrom(lowest);
  }
}

SHUNT_EXPORT int dup(int fd) noexcept {
  const sockets::Outcome r = sockets::duplicate(fd);
  return r == kPassOn ? libc().dup(fd) : finish(r);
}
SHUNT_EXPORT int dup2(int from, int to) noexcept { return dup2_any(from, to); }
SHUNT_EXPORT int __dup2(int from, int to) noexcept { return dup2_any(from, to); }
SHUNT_EXPORT int dup3(int from, int to, int flags) noexcept {
  const sockets::Outcome r = sockets::duplicate_to(from, to, flags);
  return r == kPassOn ? libc().dup3(from, to, flags) : finish(r);
}

#define SHUNT_FCNTL(name)                           \
  SHUNT_EXPORT int name(int fd, int command, ...) { \
    va_list arguments;                              \
    va_start(arguments, command);                   \
    const long argument = va_arg(arguments, long);  \
    va_end(arguments);                              \
    return fcntl_any(fd, command, argument);        \
  }
SHUNT_FCNTL(fcntl)
SHUNT_FCNTL(fcntl64)
SHUNT_FCNTL(__fcntl)
#undef SHUNT_FCNTL

SHUNT_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  sockets::Outcome r = kPassOn;
  if (sockets::Socket* s = sockets::lookup(fd)) {
    const sockets::Kind kind = s->kind.load(std::memory_order_acquire);
    if (kind == sockets::Kind::kConnection) {
      r = sockets::connection_ioctl(fd, s, request, argument);
    } else if (kind == sockets::Kind::kPlain) {
      r = sockets::plain_ioctl(fd, s, request, argument);
    } else if (kind == sockets::Kind::kListener && request == FIONBIO && argument != nullptr) {
      sockets::set_nonblocking(fd, s, *static_cast<int*>(argument) != 0);
      return 0;
    }
  }
  return r == kPassOn ? libc().ioctl(fd, request, argument) : finish(r);
}

SHUNT_EXPORT FILE* fdopen(int fd, const char* mode) noexcept {
  if (of_kind(fd, sockets::Kind::kConnection) == nullptr) return libc().fdopen(fd, mode);
  auto* cookie = static_cast<Cookie*>(malloc(sizeof(Cookie)));
  if (cookie == nullptr) return nullptr;
  cookie->fd = fd;
  FILE* stream = fopencookie(cookie, mode, {cookie_read, cookie_write, nullptr, cookie_close});
  if (stream == nullptr) {
    free(cookie);
    return nullptr;
  }
  stream->_fileno = fd;  // for fileno()
  return stream;
}

SHUNT_EXPORT int fclose(FILE* stream) {
  // A stream opened before its socket was shunted closes the descriptor inside libc.
  const int fd = stream != nullptr ? fileno(stream) : -1;
  sockets::Socket* forgotten = nullptr;
  const bool cookie = fd >= 0 && of_kind(fd, sockets::Kind::kConnection) != nullptr;
  if (fd >= 0 && !cookie) forgotten = sockets::begin_forget(fd);
  const int r = libc().fclose(stream);
  sockets::finish_forget(forgotten);
  return r;
}

SHUNT_EXPORT int vdprintf(int fd, const char* format, va_list arguments) {
  return vdprintf_any(fd, format, arguments);
}
SHUNT_EXPORT int dprintf(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int r = vdprintf_any(fd, format, arguments);
  va_end(arguments);
  return r;
}

// _Fork() runs no fork handlers.
SHUNT_EXPORT pid_t _Fork() noexcept {
  sockets::before_fork();
  const pid_t pid = libc()._Fork();
  if (pid == 0) {
    sockets::after_fork_in_child();
  } else {
    sockets::after_fork_in_parent();
  }
  return pid;
}

// Runtimes that close descriptors by number (libuv) would leave stale entries behind, and those that exec by
// number would give away connections that carry rings. Everything
// else, known or unknown, goes through.
SHUNT_EXPORT long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& each : a) each = va_arg(list, long);
  va_end(list);
  switch (number) {
    case SYS_close:
      return ::close(static_cast<int>(a[0]));
    case SYS_dup:
      return ::dup(static_cast<int>(a[0]));
    case SYS_dup3:
      return ::dup3(static_cast<int>(a[0]), static_cast<int>(a[1]), static_cast<int>(a[2]));
    case SYS_dup2:
      return ::dup2(static_cast<int>(a[0]), static_cast<int>(a[1]));
    case SYS_close_range:
      return ::close_range(static_cast<unsigned>(a[0]), static_cast<unsigned>(a[1]),
                           static_cast<int>(a[2]));
    case SYS_execve:
      return ::execve(reinterpret_cast<const char*>(a[0]), reinterpret_cast<char* const*>(a[1]),
                      reinterpret_cast<char* const*>(a[2]));
    case SYS_execveat:
      return ::execveat(static_cast<int>(a[0]), reinterpret_cast<const char*>(a[1]),
                        reinterpret_cast<char* const*>(a[2]), reinterpret_cast<char* const*>(a[3]),
                        static_cast<int>(a[4]));
    case SYS_io_uring_setup:
      // Its requests would reach the kernel's side of a connection behind our back.
      return finish<long>(-ENOSYS);
    default:
      return libc().syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
}
