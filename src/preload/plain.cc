#include "preload/plain.h"

#include <algorithm>

#include "preload/libc.h"
#include "sockets/connection/buffers.h"
#include "sockets/options/plain_options.h"
#include "sockets/options/plain_state.h"

namespace shunt::preload {
namespace {

constexpr int kKnownToTcp =
    MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_CONFIRM | MSG_EOR | MSG_DONTROUTE | MSG_ZEROCOPY;

long negative_errno(ssize_t n) { return n < 0 ? -errno : static_cast<long>(n); }

long receive_parts(int fd, const iovec* parts, size_t count, int flags) {
  // No name (it would be an AF_UNIX one) and no room for control messages.
  msghdr m{};
  m.msg_iov = const_cast<iovec*>(parts);
  m.msg_iovlen = count;
  return negative_errno(libc().recvmsg(fd, &m, flags));
}

// MSG_TRUNC asks TCP to throw bytes away; AF_UNIX would write them.
long discard(int fd, size_t size, int flags) {
  char waste[4096];
  if ((flags & MSG_PEEK) != 0) {
    const long n = negative_errno(libc().recv(fd, waste, std::min<size_t>(size, 1), flags));
    if (n <= 0) return n;
    int there = 0;
    if (libc().ioctl(fd, FIONREAD, &there) != 0 || there < 1) there = 1;
    return static_cast<long>(std::min(size, static_cast<size_t>(there)));
  }
  size_t done = 0;
  do {
    if (done > 0 && (flags & MSG_WAITALL) == 0) flags |= MSG_DONTWAIT;
    const long n =
        negative_errno(libc().recv(fd, waste, std::min(size - done, sizeof waste), flags));
    if (n <= 0) return done > 0 ? static_cast<long>(done) : n;
    done += static_cast<size_t>(n);
  } while (done < size);
  return static_cast<long>(done);
}

}  // namespace

long receive_plain(int fd, sockets::Socket* s, const iovec* parts, size_t count, int flags) {
  if ((flags & MSG_OOB) != 0) return -EINVAL;
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;
  const int saved = errno;
  const bool shut = sockets::plain_read_shut(s);
  if (shut) flags |= MSG_DONTWAIT;
  long r = (flags & MSG_TRUNC) != 0
               ? discard(fd, sockets::total_size(parts, count), flags & ~MSG_TRUNC)
               : receive_parts(fd, parts, count, flags);
  if (r == -EAGAIN && shut) r = 0;
  if (r == -ECONNRESET) sockets::note_plain_reset(s);
  errno = saved;
  if ((flags & MSG_PEEK) == 0) counted_in(fd, r);
  return r;
}

sockets::Outcome receive_if_shut(int fd, const iovec* parts, size_t count) {
  sockets::Socket* s = plain_at(fd);
  if (s == nullptr || !sockets::plain_read_shut(s)) return sockets::kPassOn;
  return receive_plain(fd, s, parts, count, 0);
}

long send_plain(int fd, const iovec* parts, size_t count, int flags) {
  if ((flags & ~kKnownToTcp) != 0) return -EOPNOTSUPP;
  const int saved = errno;
  // TCP ignores a name once it is connected; control messages would carry descriptors.
  msghdr m{};
  m.msg_iov = const_cast<iovec*>(parts);
  m.msg_iovlen = count;
  const long r = negative_errno(libc().sendmsg(fd, &m, flags & (MSG_DONTWAIT | MSG_NOSIGNAL)));
  errno = saved;
  return counted_out(fd, r);
}

}  // namespace shunt::preload
