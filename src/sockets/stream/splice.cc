// splice between a pipe and a shunted connection: see sendfile.h.
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "sockets/bell/bell.h"
#include "sockets/bell/checked_rings.h"
#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/entry.h"
#include "sockets/downgrade/follow.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/stream/sendfile.h"
#include "sockets/stream/sendfile_internal.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::size_t kPipeAtom = 4096;  // what fits when poll() says that a pipe is writable
constexpr unsigned kSpliceFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
constexpr int kRwfNowait = 8;
constexpr timespec kShortPause{0, 1'000'000};
constexpr timespec kNoTime{0, 0};

// Why a send would fail now, -errno; 0: it would not.
long send_error(Socket* s) {
  Connection* c = s->connection;
  absorb_events(c);
  Hold hold(c->state_lock);
  const conn::State& state = c->state;
  if (state.pending_error == 0 && !state.write_shut && !state.dead) return 0;
  const conn::Answer a = conn::on_write(c->state);
  return a.verdict == conn::Verdict::kError ? -a.error : 0;
}

bool peer_gone(Socket* s) {
  Hold hold(s->connection->state_lock);
  return s->connection->state.peer_gone;
}

bool is_pipe(int fd) {
  struct stat st;
  return sys::fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

bool is_nonblocking(int fd) { return (sys::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

// 0: ready (or at its end); -EAGAIN, -EINTR; -EPIPE: nobody reads it, and SIGPIPE was raised.
long wait_for_pipe(int fd, short events, bool dont_wait) {
  pollfd p{fd, events, 0};
  int r = 0;
  {
    const CancelPoint point;
    r = sys::ppoll(&p, 1, dont_wait ? &kNoTime : nullptr, nullptr);
  }
  if (r <= 0) return r < 0 ? r : -EAGAIN;
  if ((events & POLLOUT) == 0 || (p.revents & POLLERR) == 0) return 0;
  sys::tgkill(sys::getpid(), sys::gettid(), SIGPIPE);
  return -EPIPE;
}

std::size_t bytes_in_pipe(int fd) {
  int n = 0;
  return sys::ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? static_cast<std::size_t>(n) : 0;
}

// Without waiting, where the kernel can promise that for pipes (6.4); else there was something to
// read, or room for `kPipeAtom`, just now, and only another user of the pipe could have taken it.
long read_pipe(int fd, std::uint8_t* data, std::size_t size) {
  const iovec part{data, size};
  const long n = sys::raw(SYS_preadv2, fd, sys::arg(&part), 1, -1, 0, kRwfNowait);
  return n == -EOPNOTSUPP ? sys::read(fd, data, size) : n;
}

long write_pipe(int fd, const std::uint8_t* data, std::size_t size) {
  const iovec part{const_cast<std::uint8_t*>(data), size};
  const long n = sys::raw(SYS_pwritev2, fd, sys::arg(&part), 1, -1, 0, kRwfNowait);
  if (n != -EOPNOTSUPP) return n;
  if (is_nonblocking(fd)) return sys::write(fd, data, size);
  std::size_t done = 0;
  while (done < size) {
    const long ready = wait_for_pipe(fd, POLLOUT, true);
    const long r =
        ready < 0 ? ready : sys::write(fd, data + done, std::min(size - done, kPipeAtom));
    if (r < 0) return done > 0 ? static_cast<long>(done) : r;
    done += static_cast<std::size_t>(r);
  }
  return static_cast<long>(done);
}

// Bytes that have left the pipe must get into the stream. There was room for them: only another
// thread that sends on the same socket can make this wait.
long send_all(int fd, Socket* s, const std::uint8_t* data, std::size_t size) {
  const NoCancel uncancelled;
  std::size_t done = 0;
  while (done < size) {
    const Outcome n = send_once(fd, s, data + done, size - done);
    if (n == kNotOurs) {
      // It was downgraded meanwhile: the kernel's socket takes the rest.
      const long sent = sys::send(fd, data + done, size - done, MSG_NOSIGNAL);
      if (sent < 0 && sent != -EAGAIN && sent != -EINTR) return sent;
      done += sent > 0 ? static_cast<std::size_t>(sent) : 0;
    } else if (n.value() > 0) {
      done += static_cast<std::size_t>(n.value());
    } else if (n == -EAGAIN || n == -EINTR) {
      sys::raw(SYS_nanosleep, sys::arg(&kShortPause), 0);
    } else {
      return n.value() < 0 ? n.value() : -EIO;
    }
  }
  return static_cast<long>(done);
}

// 0: there is room (or the peer is gone and takes anything); else why not, -errno.
long wait_for_room(int fd, Socket* s, std::uint64_t* room) {
  Connection* c = s->connection;
  const std::int64_t deadline = deadline_from(c->write_timeout_ns, sys::monotonic_ns());
  VainWakes vain;
  for (;;) {
    follow_downgrade(fd, s);
    if (off_rings(c)) {
      *room = kPipeAtom;
      return 0;
    }
    const long error = send_error(s);
    if (error != 0) return error;
    *room = peer_gone(s) ? kBufferBytes : send_space(s);
    if (*room > 0) return 0;
    if (c->nonblocking.load(kRelaxed)) return -EAGAIN;
    if (lookup(fd) != s) return -EBADF;
    const long r = wait_writable(fd, s, deadline, vain);
    if (r < 0) return r;
  }
}

long pipe_to_stream(int in_fd, int out_fd, Socket* s, std::size_t count, bool dont_wait,
                    const TransferBuffer& buffer) {
  std::size_t total = 0;
  long result = 0;
  while (total < count) {
    const std::size_t there = bytes_in_pipe(in_fd);
    if (there == 0) {
      if (total > 0) break;
      result = wait_for_pipe(in_fd, POLLIN, dont_wait);
      if (result < 0 || bytes_in_pipe(in_fd) == 0) break;  // 0: nobody writes to it any more
      continue;
    }
    std::uint64_t room = 0;
    result = wait_for_room(out_fd, s, &room);
    if (result < 0) break;
    const std::size_t want = std::min({count - total, there, kBufferBytes, std::size_t{room}});
    result = read_pipe(in_fd, buffer.data(), want);
    if (result == -EAGAIN && !dont_wait) continue;  // another reader was faster
    if (result <= 0) break;
    result = send_all(out_fd, s, buffer.data(), static_cast<std::size_t>(result));
    if (result < 0) break;
    total += static_cast<std::size_t>(result);
  }
  return total > 0 ? static_cast<long>(total) : result;
}

// With rx held from the copy to the consumption: no other reader can come between.
long move_to_pipe(int in_fd, Socket* s, int out_fd, std::size_t count,
                  const TransferBuffer& buffer) {
  Connection* c = s->connection;
  const Entry in(in_fd, s, Side::kRead);
  if (in.way() == Way::kRest) return 0;  // just now
  if (in.way() == Way::kElsewhere) return -EBADF;
  if (in.way() != Way::kRings) return -EINTR;
  std::size_t total = 0;
  while (total < count && readable_bytes(c) > 0) {
    ring::Reader reader = c->read_end();
    ring::Status status = ring::Status::kOk;
    const std::size_t want = std::min(count - total, kBufferBytes);
    const std::size_t n = reader.copy(0, buffer.data(), want, &status);
    long moved = 0;
    if (status == ring::Status::kOk && n > 0) {
      moved = write_pipe(out_fd, buffer.data(), n);
      if (moved <= 0) return total > 0 ? static_cast<long>(total) : moved;
      status = reader.consume(static_cast<std::uint64_t>(moved));
    }
    if (status != ring::Status::kOk) {
      reset_untrusted(c);
      break;
    }
    if (n == 0) break;
    total += static_cast<std::size_t>(moved);
    count_received(s, static_cast<std::uint64_t>(moved));
    if (reader.must_ring_for_space()) ring(in_fd, c);
    if (static_cast<std::size_t>(moved) < n) break;
  }
  return static_cast<long>(total);
}

// No more at once than a writable pipe takes without waiting.
Outcome move_rest_to_pipe(int in_fd, Socket* s, int out_fd, std::size_t count,
                          const TransferBuffer& buffer) {
  const iovec part{buffer.data(), std::min(count, kPipeAtom)};
  const Outcome n = receive_stream(in_fd, s, &part, 1, MSG_DONTWAIT);
  if (!n.is_value() || n.value() <= 0) return n;
  return sys::write(out_fd, buffer.data(), static_cast<std::size_t>(n.value()));
}

Outcome stream_to_pipe(int in_fd, Socket* s, int out_fd, std::size_t count, bool dont_wait,
                       const TransferBuffer& buffer) {
  for (;;) {
    // As Linux: room in the pipe first, then bytes in the stream, which is waited for unless the
    // socket itself is non-blocking.
    const long ready = wait_for_pipe(out_fd, POLLOUT, dont_wait);
    if (ready < 0) return ready;
    std::uint8_t first;
    const iovec part{&first, 1};
    Outcome result = receive_stream(in_fd, s, &part, 1, MSG_PEEK);
    if (!result.is_value() || result.value() <= 0) return result;
    result = off_rings(s->connection) ? move_rest_to_pipe(in_fd, s, out_fd, count, buffer)
                                      : move_to_pipe(in_fd, s, out_fd, count, buffer);
    // Another user of the pipe or of the stream was faster: begin again.
    if (result == 0 || (result == -EAGAIN && !dont_wait)) continue;
    return result;
  }
}

long check_splice(Socket* in, const off_t* in_offset, int pipe_fd, Socket* out,
                  const off_t* out_offset, unsigned flags) {
  if ((flags & ~kSpliceFlags) != 0) return -EINVAL;
  if (in != nullptr && out != nullptr) return -EINVAL;
  const int mode = sys::fcntl(pipe_fd, F_GETFL);
  if (mode < 0) return mode;
  const int needed = in != nullptr ? O_WRONLY : O_RDONLY;
  if ((mode & O_ACCMODE) != needed && (mode & O_ACCMODE) != O_RDWR) return -EBADF;
  if (!is_pipe(pipe_fd)) return -EINVAL;
  // A pipe has no offset, and a socket none either, but the errors differ.
  if ((in != nullptr ? out_offset : in_offset) != nullptr) return -ESPIPE;
  if ((in != nullptr ? in_offset : out_offset) != nullptr) return -EINVAL;
  return 0;
}

}  // namespace

Outcome splice_stream(int in_fd, Socket* in, off_t* in_offset, int out_fd, Socket* out,
                      off_t* out_offset, std::size_t count, unsigned flags) {
  if (count == 0) return 0;
  const int pipe_fd = in != nullptr ? out_fd : in_fd;
  const long bad = check_splice(in, in_offset, pipe_fd, out, out_offset, flags);
  if (bad < 0) return bad;
  const Pinned pinned(in != nullptr ? in_fd : out_fd, in != nullptr ? in : out);
  if (!pinned.ours()) return kNotOurs;
  const TransferBuffer buffer;
  if (buffer.data() == nullptr) return -ENOMEM;
  count = std::min(count, kMaxTransfer);
  const Undo undo([&] {
    buffer.~TransferBuffer();
    pinned.~Pinned();
  });
  const bool dont_wait = (flags & SPLICE_F_NONBLOCK) != 0 || is_nonblocking(pipe_fd);
  return in != nullptr ? stream_to_pipe(in_fd, in, out_fd, count, dont_wait, buffer)
                       : pipe_to_stream(in_fd, out_fd, out, count, dont_wait, buffer);
}

}  // namespace shunt::sockets
