// Moving bytes.
#include <string.h>

#include "preload/call.h"
#include "preload/libc.h"
#include "preload/passing.h"
#include "preload/plain.h"
#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/stream/sendfile.h"
#include "sys/kernel.h"

extern "C" void __chk_fail() __attribute__((noreturn));

namespace shunt::preload {
namespace {

using sockets::Kind;
using sockets::kPassOn;
using sockets::Outcome;
using sockets::Socket;

Outcome receive(int fd, void* data, size_t size, int flags) {
  return on_connection(fd, [&](Socket* s) -> Outcome {
    if ((flags & MSG_TRUNC) == 0 && bad_range(data, size)) return -EFAULT;
    const iovec part{data, size};
    return sockets::receive_stream(fd, s, &part, 1, flags);
  });
}

// The same on a plain connection too.
Outcome receive_any(int fd, void* data, size_t size, int flags) {
  const Outcome r = receive(fd, data, size, flags);
  Socket* s = r == kPassOn ? plain_at(fd) : nullptr;
  if (s == nullptr) return r;
  const iovec part{data, size};
  return receive_plain(fd, s, &part, 1, flags);
}

// TCP raises SIGPIPE together with EPIPE; the signal is delivered before the call returns.
Outcome with_sigpipe(Outcome r, int flags) {
  if (r == -EPIPE && (flags & MSG_NOSIGNAL) == 0) {
    sys::tgkill(sys::getpid(), sys::gettid(), SIGPIPE);
  }
  return r;
}

bool bad_parts(const iovec* parts, size_t count) {
  if (bad_range(parts, count * sizeof *parts)) return true;
  for (size_t i = 0; i < count; ++i) {
    if (bad_range(parts[i].iov_base, parts[i].iov_len)) return true;
  }
  return false;
}

Outcome transmit(int fd, const iovec* parts, size_t count, int flags) {
  const Outcome r = on_connection(fd, [&](Socket* s) -> Outcome {
    if (count > 1024) return -EMSGSIZE;
    if (bad_parts(parts, count)) return -EFAULT;
    return sockets::send_stream(fd, s, parts, count, flags);
  });
  return with_sigpipe(r, flags);
}

Outcome transmit(int fd, const void* data, size_t size, int flags) {
  const iovec part{const_cast<void*>(data), size};
  return transmit(fd, &part, 1, flags);
}

Outcome transmit_any(int fd, const void* data, size_t size, int flags) {
  const Outcome r = transmit(fd, data, size, flags);
  if (r != kPassOn || plain_at(fd) == nullptr) return r;
  const iovec part{const_cast<void*>(data), size};
  return send_plain(fd, &part, 1, flags);
}

bool bad_count(int count) { return count < 0 || count > 1024; }

// A message on a shunted or plain connection; kPassOn: it is neither.
Outcome receive_message(int fd, msghdr* m, int flags) {
  Outcome r = on_connection(fd, [&](Socket* s) -> Outcome {
    if (m->msg_iovlen > 1024) return -EMSGSIZE;
    if (bad_parts(m->msg_iov, m->msg_iovlen)) return -EFAULT;
    return sockets::receive_stream(fd, s, m->msg_iov, m->msg_iovlen, flags);
  });
  if (r == kPassOn) {
    if (Socket* s = plain_at(fd)) r = receive_plain(fd, s, m->msg_iov, m->msg_iovlen, flags);
  }
  if (r.is_value() && r.value() >= 0) {
    m->msg_namelen = 0;
    m->msg_controllen = 0;
    m->msg_flags = 0;
  }
  return r;
}

Outcome send_message(int fd, const msghdr* m, int flags) {
  const Outcome r = transmit(fd, m->msg_iov, m->msg_iovlen, flags);
  if (r != kPassOn || plain_at(fd) == nullptr) return r;
  return send_plain(fd, m->msg_iov, m->msg_iovlen, flags);
}

void note_fast_open(int fd, int flags) {
  if ((flags & MSG_FASTOPEN) == 0) return;
  if (Socket* s = of_kind(fd, Kind::kTcp)) {
    s->forbidden = true;
    s->reason = wire::Reason::kUnsupportedCall;
    s->detail = "MSG_FASTOPEN";
  }
}

}  // namespace
}  // namespace shunt::preload

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT ssize_t read(int fd, void* data, size_t size) {
  // read() of nothing is 0 at once; recv() of nothing is not.
  if (size == 0 && of_kind(fd, Kind::kConnection) != nullptr) return 0;
  Outcome r = receive(fd, data, size, 0);
  const iovec part{data, size};
  if (r == kPassOn && size > 0) r = receive_if_shut(fd, &part, 1);
  return r == kPassOn ? counted_in(fd, libc().read(fd, data, size)) : finish<ssize_t>(r);
}
SHUNT_EXPORT ssize_t __read(int fd, void* data, size_t size) { return read(fd, data, size); }
SHUNT_EXPORT ssize_t __read_chk(int fd, void* data, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return read(fd, data, size);
}

SHUNT_EXPORT ssize_t recv(int fd, void* data, size_t size, int flags) {
  const Outcome r = receive_any(fd, data, size, flags);
  return r == kPassOn ? counted_in(fd, libc().recv(fd, data, size, flags)) : finish<ssize_t>(r);
}
SHUNT_EXPORT ssize_t __recv_chk(int fd, void* data, size_t size, size_t room, int flags) {
  if (size > room) __chk_fail();
  return recv(fd, data, size, flags);
}

SHUNT_EXPORT ssize_t recvfrom(int fd, void* data, size_t size, int flags, sockaddr* address,
                              socklen_t* length) {
  const Outcome r = receive_any(fd, data, size, flags);
  if (r == kPassOn) {
    return counted_in(fd, libc().recvfrom(fd, data, size, flags, address, length));
  }
  if (r.value() >= 0 && address != nullptr && length != nullptr) *length = 0;
  return finish<ssize_t>(r);
}
SHUNT_EXPORT ssize_t __recvfrom_chk(int fd, void* data, size_t size, size_t room, int flags,
                                    sockaddr* address, socklen_t* length) {
  if (size > room) __chk_fail();
  return recvfrom(fd, data, size, flags, address, length);
}

SHUNT_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  if (of_kind(fd, Kind::kConnection) != nullptr && bad_count(count))
    return finish<ssize_t>(-EINVAL);
  Outcome r = on_connection(fd, [&](Socket* s) -> Outcome {
    if (bad_parts(parts, static_cast<size_t>(count))) return -EFAULT;
    size_t size = 0;
    for (int i = 0; i < count; ++i) size += parts[i].iov_len;
    if (size == 0) return 0;
    return sockets::receive_stream(fd, s, parts, static_cast<size_t>(count), 0);
  });
  if (r == kPassOn && count > 0) r = receive_if_shut(fd, parts, static_cast<size_t>(count));
  return r == kPassOn ? counted_in(fd, libc().readv(fd, parts, count)) : finish<ssize_t>(r);
}

SHUNT_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const Outcome r = receive_message(fd, message, flags);
  if (r != kPassOn) return finish<ssize_t>(r);
  const ssize_t n = libc().recvmsg(fd, message, flags);
  if (n >= 0) adopt_passed(message);
  return counted_in(fd, n);
}

SHUNT_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags,
                          struct timespec* timeout) {
  if (stand_in_at(fd) == nullptr) {
    const int n = libc().recvmmsg(fd, messages, count, flags, timeout);
    for (int i = 0; i < n; ++i) adopt_passed(&messages[i].msg_hdr);
    return n;
  }
  const std::int64_t begin = timeout != nullptr ? sys::monotonic_ns() : 0;
  unsigned done = 0;
  Outcome r = 0;
  for (; done < count; ++done) {
    int each = flags & ~MSG_WAITFORONE;
    if (done > 0 && (flags & MSG_WAITFORONE) != 0) each |= MSG_DONTWAIT;
    r = receive_message(fd, &messages[done].msg_hdr, each);
    if (!r.is_value() || r.value() < 0) break;
    messages[done].msg_len = static_cast<unsigned>(r.value());
    // As in the kernel, the time is looked at after each message only.
    if (timeout != nullptr &&
        sys::monotonic_ns() - begin >=
            timeout->tv_sec * std::int64_t{1'000'000'000} + timeout->tv_nsec) {
      ++done;
      break;
    }
  }
  return done > 0 ? static_cast<int>(done) : finish(r == kPassOn ? Outcome(-EBADF) : r);
}

SHUNT_EXPORT ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (of_kind(fd, Kind::kConnection) == nullptr || offset != -1) {
    return libc().preadv2(fd, parts, count, offset, flags);
  }
  if (flags != 0) return finish<ssize_t>(-EOPNOTSUPP);
  return readv(fd, parts, count);
}
SHUNT_EXPORT ssize_t preadv64v2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  return preadv2(fd, parts, count, offset, flags);
}

SHUNT_EXPORT ssize_t write(int fd, const void* data, size_t size) {
  const Outcome r = transmit(fd, data, size, 0);
  return r == kPassOn ? counted_out(fd, libc().write(fd, data, size)) : finish<ssize_t>(r);
}
SHUNT_EXPORT ssize_t __write(int fd, const void* data, size_t size) {
  return write(fd, data, size);
}

SHUNT_EXPORT ssize_t send(int fd, const void* data, size_t size, int flags) {
  note_fast_open(fd, flags);
  const Outcome r = transmit_any(fd, data, size, flags);
  return r == kPassOn ? counted_out(fd, libc().send(fd, data, size, flags)) : finish<ssize_t>(r);
}
SHUNT_EXPORT ssize_t __send(int fd, const void* data, size_t size, int flags) {
  return send(fd, data, size, flags);
}

SHUNT_EXPORT ssize_t sendto(int fd, const void* data, size_t size, int flags,
                            const sockaddr* address, socklen_t length) {
  note_fast_open(fd, flags);
  const Outcome r = transmit_any(fd, data, size, flags);  // TCP ignores the address once connected
  return r == kPassOn ? counted_out(fd, libc().sendto(fd, data, size, flags, address, length))
                      : finish<ssize_t>(r);
}

SHUNT_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  if (of_kind(fd, Kind::kConnection) != nullptr && bad_count(count))
    return finish<ssize_t>(-EINVAL);
  const Outcome r = transmit(fd, parts, static_cast<size_t>(count), 0);
  return r == kPassOn ? counted_out(fd, libc().writev(fd, parts, count)) : finish<ssize_t>(r);
}

SHUNT_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  note_fast_open(fd, flags);
  Outcome r = send_message(fd, message, flags);
  if (r == kPassOn && message->msg_controllen > 0 && sockets::lookup(fd) == nullptr) {
    const long prepared = prepare_passing(message);
    if (prepared < 0) r = prepared;
  }
  return r == kPassOn ? counted_out(fd, libc().sendmsg(fd, message, flags)) : finish<ssize_t>(r);
}

SHUNT_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (stand_in_at(fd) == nullptr) {
    for (unsigned i = 0; i < count && sockets::lookup(fd) == nullptr; ++i) {
      const long prepared = prepare_passing(&messages[i].msg_hdr);
      if (prepared < 0 && i == 0) return finish(prepared);
      if (prepared < 0) count = i;  // those before it are sent
    }
    return libc().sendmmsg(fd, messages, count, flags);
  }
  unsigned done = 0;
  Outcome r = 0;
  for (; done < count; ++done) {
    r = send_message(fd, &messages[done].msg_hdr, flags);
    if (!r.is_value() || r.value() < 0) break;
    messages[done].msg_len = static_cast<unsigned>(r.value());
  }
  return done > 0 ? static_cast<int>(done) : finish(r == kPassOn ? Outcome(-EBADF) : r);
}
SHUNT_EXPORT int __sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  return sendmmsg(fd, messages, count, flags);
}

SHUNT_EXPORT ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (of_kind(fd, Kind::kConnection) == nullptr || offset != -1) {
    return libc().pwritev2(fd, parts, count, offset, flags);
  }
  if (flags != 0) return finish<ssize_t>(-EOPNOTSUPP);
  return writev(fd, parts, count);
}
SHUNT_EXPORT ssize_t pwritev64v2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  return pwritev2(fd, parts, count, offset, flags);
}

SHUNT_EXPORT ssize_t sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  if (of_kind(in, Kind::kConnection) != nullptr)
    return finish<ssize_t>(-EINVAL);  // as TCP: no mmap
  const Outcome r = on_connection(
      out, [&](Socket* s) { return sockets::sendfile_stream(out, s, in, offset, count); });
  return r == kPassOn ? counted_out(out, libc().sendfile(out, in, offset, count))
                      : finish<ssize_t>(with_sigpipe(r, 0));
}
SHUNT_EXPORT ssize_t sendfile64(int out, int in, off_t* offset, size_t count) noexcept {
  return sendfile(out, in, offset, count);
}

SHUNT_EXPORT ssize_t splice(int in, off_t* in_offset, int out, off_t* out_offset, size_t count,
                            unsigned flags) {
  for (;;) {
    Socket* from = of_kind(in, Kind::kConnection);
    Socket* to = of_kind(out, Kind::kConnection);
    if (from == nullptr && to == nullptr) {
      return counted_in(
          in, counted_out(out, libc().splice(in, in_offset, out, out_offset, count, flags)));
    }
    const Outcome r =
        sockets::splice_stream(in, from, in_offset, out, to, out_offset, count, flags);
    if (r != sockets::kNotOurs) return finish<ssize_t>(with_sigpipe(r, 0));
  }
}
