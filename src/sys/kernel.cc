#include "sys/kernel.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>

namespace shunt::sys {
namespace {
constexpr int kMaxFds = 4;
std::atomic<int> lowest{INT_MAX};

void note_high(int fd) {
  int seen = lowest.load(std::memory_order_relaxed);
  while (fd < seen && !lowest.compare_exchange_weak(seen, fd, std::memory_order_relaxed)) {
  }
}

constexpr long kHighFloor = 8192;  // higher would make the kernel grow the descriptor table for us
}  // namespace

long send_fds(int socket, const void* data, std::size_t size, const int* fds, int fd_count,
              int flags) {
  iovec iov{const_cast<void*>(data), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  if (fd_count > 0) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(sizeof(int) * static_cast<unsigned>(fd_count));
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<unsigned>(fd_count));
    std::memcpy(CMSG_DATA(c), fds, sizeof(int) * static_cast<unsigned>(fd_count));
  }
  return sys::sendmsg(socket, &m, flags | MSG_NOSIGNAL);
}

long recv_fds(int socket, void* data, std::size_t size, int* fds, int fd_capacity, int* fd_count,
              int flags, bool* truncated) {
  iovec iov{data, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)];
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  *fd_count = 0;
  const long n = sys::recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  if (truncated != nullptr) *truncated = (m.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      if (*fd_count < fd_capacity) {
        fds[(*fd_count)++] = fd;
      } else {
        sys::close_received(fd);
      }
    }
  }
  return n;
}

void close_received(int fd) {
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  if (sys::getpeername(fd, &peer, &length) == 0) {
    const linger off{0, 0};
    sys::setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, static_cast<socklen_t>(sizeof off));
  }
  sys::close(fd);
}

int move_high(int fd) {
  rlimit limit{};
  raw(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, arg(&limit));
  const long floor = std::min<long>(static_cast<long>(limit.rlim_cur / 2), kHighFloor);
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, floor);
  if (high >= 0) close(fd);
  note_high(high >= 0 ? high : fd);
  return high >= 0 ? high : fd;
}

int lowest_high() { return lowest.load(std::memory_order_relaxed); }

}  // namespace shunt::sys
