// sendfile, and what splice shares with it.
#include "sockets/stream/sendfile.h"

#include <algorithm>
#include <cerrno>

#include "sockets/bell/checked_rings.h"
#include "sockets/connection/carriage.h"
#include "sockets/process/result.h"
#include "sockets/stream/send.h"
#include "sockets/stream/sendfile_internal.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

std::atomic<void*> spare_buffer{nullptr};

long file_position(int fd) { return sys::raw(SYS_lseek, fd, 0, SEEK_CUR); }

// Linux's answers for a file that cannot be read at a position.
long bad_file(long error, bool own_position) {
  if (error == -EISDIR) return -EINVAL;
  if (error == -ESPIPE && own_position) return -EINVAL;
  return error;
}

Outcome send_file(int out_fd, Socket* s, int in_fd, std::int64_t at, std::size_t count,
                  const TransferBuffer& buffer) {
  std::size_t total = 0;
  Outcome result = 0;
  do {
    std::size_t want = std::min(count - total, kBufferBytes);
    if (s->connection->nonblocking.load(kRelaxed)) {
      // Do not read what will not fit; one byte, so that the send tells why.
      want = std::min<std::size_t>(want, std::max<std::uint64_t>(send_space(s), 1));
    }
    const long n = sys::pread(in_fd, buffer.data(), want, at + static_cast<std::int64_t>(total));
    if (n <= 0) {
      result = n;
      break;
    }
    result = send_once(out_fd, s, buffer.data(), static_cast<std::size_t>(n));
    if (!result.is_value() || result.value() <= 0) break;
    total += static_cast<std::size_t>(result.value());
    if (result.value() < n) break;
  } while (total < count);
  return total > 0 ? Outcome(static_cast<long>(total)) : result;
}

}  // namespace

TransferBuffer::TransferBuffer()
    : at_(spare_buffer.exchange(nullptr, std::memory_order_acquire)) {  // pairs with the destructor
  if (at_ != nullptr) return;
  at_ =
      sys::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

TransferBuffer::~TransferBuffer() {
  if (at_ == nullptr) return;
  void* none = nullptr;
  // Release: the next user sees it after we are done with it.
  if (!spare_buffer.compare_exchange_strong(none, at_, std::memory_order_release, kRelaxed)) {
    sys::munmap(at_, kBufferBytes);
  }
}

std::uint64_t send_space(Socket* s) {
  Connection* c = s->connection;
  Hold tx(c->tx);
  c->write_end().take_echo();
  const bool room = writer_has_room(c);  // also brings the tail up to date
  const ring::WriterState& w = c->writer;
  std::uint64_t in_segment = layout::kSegmentBytes;
  if (w.members != 0 && w.offset < layout::kSegmentBytes) {
    in_segment = layout::kSegmentBytes - w.offset;
  } else if (!room) {
    return 0;  // the next segment cannot be entered yet
  }
  return lost(c) ? 0 : std::min(c->write_end().space(), in_segment);
}

Outcome send_once(int fd, Socket* s, const std::uint8_t* data, std::size_t size) {
  const iovec part{const_cast<std::uint8_t*>(data), size};
  return send_stream(fd, s, &part, 1, MSG_NOSIGNAL);
}

Outcome sendfile_stream(int out_fd, Socket* out, int in_fd, off_t* offset, std::size_t count) {
  const NoCancel uncancelled;  // as in libc
  const Pinned pinned(out_fd, out);
  if (!pinned.ours()) return kNotOurs;
  const std::int64_t at = offset != nullptr ? *offset : file_position(in_fd);
  if (at < 0) return offset != nullptr ? -EINVAL : bad_file(at, true);
  count = std::min(count, kMaxTransfer);
  const TransferBuffer buffer;
  if (buffer.data() == nullptr) return -ENOMEM;
  // Before anything else, as Linux: is it readable, and at a position?
  const long readable = sys::pread(in_fd, buffer.data(), 0, at);
  if (readable < 0) return bad_file(readable, offset == nullptr);
  const Outcome sent = count > 0 ? send_file(out_fd, out, in_fd, at, count, buffer) : 0;
  if (!sent.is_value()) return sent;
  const long result = sent.value();
  if (result < 0) return bad_file(result, offset == nullptr);
  if (offset != nullptr) {
    *offset = at + result;
  } else if (result > 0) {
    sys::raw(SYS_lseek, in_fd, at + result, SEEK_SET);
  }
  return result;
}

}  // namespace shunt::sockets
