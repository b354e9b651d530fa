// The system calls the provider makes for itself, typed. Each returns the kernel's answer: >= 0, or
// -errno. None touches errno, none is a cancellation point, none goes through an interposed symbol.
//
// Thread safety: stateless.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

#include "sys/raw_call.h"

namespace shunt::sys {

inline constexpr std::size_t kKernelSigsetBytes = 8;

inline int close(int fd) { return static_cast<int>(raw(SYS_close, fd)); }
inline int socket(int domain, int type, int protocol) {
  return static_cast<int>(raw(SYS_socket, domain, type, protocol));
}
inline int socketpair(int domain, int type, int protocol, int out[2]) {
  return static_cast<int>(raw(SYS_socketpair, domain, type, protocol, arg(out)));
}
inline int bind(int fd, const void* address, socklen_t length) {
  return static_cast<int>(raw(SYS_bind, fd, arg(address), length));
}
inline int listen(int fd, int backlog) { return static_cast<int>(raw(SYS_listen, fd, backlog)); }
inline int connect(int fd, const void* address, socklen_t length) {
  return static_cast<int>(raw(SYS_connect, fd, arg(address), length));
}
inline int accept4(int fd, void* address, socklen_t* length, int flags) {
  return static_cast<int>(raw(SYS_accept4, fd, arg(address), arg(length), flags));
}
inline int getsockname(int fd, void* address, socklen_t* length) {
  return static_cast<int>(raw(SYS_getsockname, fd, arg(address), arg(length)));
}
inline int getpeername(int fd, void* address, socklen_t* length) {
  return static_cast<int>(raw(SYS_getpeername, fd, arg(address), arg(length)));
}
inline int getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  return static_cast<int>(raw(SYS_getsockopt, fd, level, name, arg(value), arg(length)));
}
inline int setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  return static_cast<int>(raw(SYS_setsockopt, fd, level, name, arg(value), length));
}
inline long send(int fd, const void* data, std::size_t size, int flags) {
  return raw(SYS_sendto, fd, arg(data), static_cast<long>(size), flags);
}
inline long recv(int fd, void* data, std::size_t size, int flags) {
  return raw(SYS_recvfrom, fd, arg(data), static_cast<long>(size), flags);
}
inline long sendmsg(int fd, const msghdr* m, int flags) {
  return raw(SYS_sendmsg, fd, arg(m), flags);
}
inline long recvmsg(int fd, msghdr* m, int flags) { return raw(SYS_recvmsg, fd, arg(m), flags); }
inline long read(int fd, void* data, std::size_t size) {
  return raw(SYS_read, fd, arg(data), static_cast<long>(size));
}
inline long write(int fd, const void* data, std::size_t size) {
  return raw(SYS_write, fd, arg(data), static_cast<long>(size));
}
inline long pread(int fd, void* data, std::size_t size, std::int64_t offset) {
  return raw(SYS_pread64, fd, arg(data), static_cast<long>(size), offset);
}
inline int open(const char* path, int flags) {
  return static_cast<int>(raw(SYS_openat, AT_FDCWD, arg(path), flags, 0));
}
inline int fcntl(int fd, int command, long argument = 0) {
  return static_cast<int>(raw(SYS_fcntl, fd, command, argument));
}
inline int ioctl(int fd, unsigned long request, void* argument) {
  return static_cast<int>(raw(SYS_ioctl, fd, static_cast<long>(request), arg(argument)));
}
inline int dup(int fd) { return static_cast<int>(raw(SYS_dup, fd)); }
inline int dup3(int from, int to, int flags) {
  return static_cast<int>(raw(SYS_dup3, from, to, flags));
}
inline long getdents64(int fd, void* entries, std::size_t size) {
  return raw(SYS_getdents64, fd, arg(entries), static_cast<long>(size));
}
inline int fstat(int fd, struct stat* out) {
  return static_cast<int>(raw(SYS_fstat, fd, arg(out)));
}
inline int fstatfs(int fd, struct statfs* out) {
  return static_cast<int>(raw(SYS_fstatfs, fd, arg(out)));
}
inline int memfd_create(const char* name, unsigned flags) {
  return static_cast<int>(raw(SYS_memfd_create, arg(name), flags));
}
inline int ftruncate(int fd, std::uint64_t size) {
  return static_cast<int>(raw(SYS_ftruncate, fd, static_cast<long>(size)));
}
// nullptr on failure.
inline void* mmap(void* at, std::size_t size, int protection, int flags, int fd,
                  std::int64_t offset) {
  const long r = raw(SYS_mmap, arg(at), static_cast<long>(size), protection, flags, fd, offset);
  return r < 0 && r > -4096 ? nullptr : reinterpret_cast<void*>(r);
}
inline int munmap(void* at, std::size_t size) {
  return static_cast<int>(raw(SYS_munmap, arg(at), static_cast<long>(size)));
}
inline int madvise(void* at, std::size_t size, int advice) {
  return static_cast<int>(raw(SYS_madvise, arg(at), static_cast<long>(size), advice));
}
inline int ppoll(pollfd* fds, std::size_t count, const timespec* timeout, const sigset_t* mask) {
  // The kernel may write the remaining time back: give it a copy.
  timespec copy{};
  if (timeout != nullptr) copy = *timeout;
  return static_cast<int>(raw(SYS_ppoll, arg(fds), static_cast<long>(count),
                              timeout != nullptr ? arg(&copy) : 0, arg(mask), kKernelSigsetBytes));
}
inline int epoll_create1(int flags) { return static_cast<int>(raw(SYS_epoll_create1, flags)); }
inline int epoll_ctl(int epfd, int op, int fd, epoll_event* event) {
  return static_cast<int>(raw(SYS_epoll_ctl, epfd, op, fd, arg(event)));
}
inline int epoll_pwait2(int epfd, epoll_event* events, int max, const timespec* timeout,
                        const sigset_t* mask) {
  return static_cast<int>(
      raw(SYS_epoll_pwait2, epfd, arg(events), max, arg(timeout), arg(mask), kKernelSigsetBytes));
}
inline int eventfd2(unsigned value, int flags) {
  return static_cast<int>(raw(SYS_eventfd2, value, flags));
}
inline int getpid() { return static_cast<int>(raw(SYS_getpid)); }
inline int gettid() { return static_cast<int>(raw(SYS_gettid)); }
inline std::uint32_t geteuid() { return static_cast<std::uint32_t>(raw(SYS_geteuid)); }
inline bool thread_exists(int tid) { return raw(SYS_tkill, tid, 0) != -3 /* ESRCH */; }
inline int tgkill(int pid, int tid, int signal) {
  return static_cast<int>(raw(SYS_tgkill, pid, tid, signal));
}
inline void sched_yield() { raw(SYS_sched_yield); }
inline long futex_wait(std::uint32_t* word, std::uint32_t value, const timespec* timeout) {
  return raw(SYS_futex, arg(word), FUTEX_WAIT, value, arg(timeout));
}
inline void futex_wake(std::uint32_t* word, int count) {
  raw(SYS_futex, arg(word), FUTEX_WAKE, count);
}
inline int sigprocmask(int how, const std::uint64_t* set, std::uint64_t* old) {
  return static_cast<int>(raw(SYS_rt_sigprocmask, how, arg(set), arg(old), kKernelSigsetBytes));
}
inline long getrandom(void* out, std::size_t size) {
  return raw(SYS_getrandom, arg(out), static_cast<long>(size), 0);
}
inline timespec timespec_of(std::int64_t ns) { return {ns / 1'000'000'000, ns % 1'000'000'000}; }
inline std::int64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);  // vDSO; not interposed
  return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
}

// Sends `size` bytes with `fd_count` descriptors (at most 4); recv_fds receives likewise, sets
// *fd_count to how many arrived (close-on-exec) and closes those beyond `fd_capacity`. *truncated: not all of them could
// be installed (EMFILE), or there were more than anybody needs.
long send_fds(int socket, const void* data, std::size_t size, const int* fds, int fd_count,
              int flags);
long recv_fds(int socket, void* data, std::size_t size, int* fds, int fd_capacity, int* fd_count,
              int flags, bool* truncated = nullptr);

// Closes a descriptor that a stranger sent. The last close of a connected TCP socket with SO_LINGER
// waits for its unsent bytes, as long as the stranger likes; so that is switched off before.
void close_received(int fd);

// A process-wide descriptor limit friendly place: moves `fd` to a high number, close-on-exec.
// Returns the new number, or the old one if none is free there; `fd` is consumed.
int move_high(int fd);
// The lowest number move_high() ever gave; INT_MAX: none. No descriptor below is the provider's own.
int lowest_high();

}  // namespace shunt::sys
