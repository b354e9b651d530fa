// One exchange over one connection: random bytes there, their echo back, compared as it comes, and the end of the
// stream behind them.
#pragma once

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "common/stream.h"

namespace shunt::test {

enum class End { kOk, kError, kWrong, kSilent };

struct Outcome {
  End end;
  int error = 0;
};

inline Outcome failed() { return {errno == EAGAIN ? End::kSilent : End::kError, errno}; }

inline bool send_all(int fd, const std::uint8_t* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

// The client's side of one exchange; what has come back is compared at once.
class Exchange {
 public:
  Exchange(int fd, std::uint64_t seed, std::size_t bytes_max, unsigned patience_ms)
      : fd_(fd),
        patience_ms_(patience_ms),
        sizes_(seed * 7919),
        total_(sizes_.size(bytes_max)),
        sending_(seed),
        expected_(seed) {}

  // Piece by piece: the next one is sent when the last one is back.
  Outcome blocking() {
    while (received_ < total_) {
      const std::size_t size = std::min(sizes_.size(30'000), total_ - sent_);
      if (!send_all(fd_, sending_.peek(size), size)) return failed();
      sending_.advance(size);
      sent_ += size;
      while (received_ < sent_) {
        if (const Outcome o = receive(sent_ - received_, 0); o.end != End::kOk) return o;
      }
    }
    return finish();
  }
  // Both directions at once.
  Outcome polling() {
    while (received_ < total_) {
      pollfd p{fd_, static_cast<short>(POLLIN | (sent_ < total_ ? POLLOUT : 0)), 0};
      const int n = poll(&p, 1, static_cast<int>(patience_ms_));
      if (n < 0) return failed();
      if (n == 0) return {End::kSilent};
      if ((p.revents & POLLOUT) != 0 && sent_ < total_) {
        const std::size_t size = std::min(sizes_.size(100'000), total_ - sent_);
        const ssize_t done = send(fd_, sending_.peek(size), size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0 && errno != EAGAIN) return failed();
        if (done > 0) sending_.advance(static_cast<std::size_t>(done));
        if (done > 0) sent_ += static_cast<std::size_t>(done);
      }
      if ((p.revents & ~POLLOUT) != 0) {
        const Outcome o = receive(kBlock, MSG_DONTWAIT);
        if (o.end != End::kOk && o.error != EAGAIN) return o;
      }
    }
    return finish();
  }

 private:
  static constexpr std::size_t kBlock = 100'000;

  Outcome receive(std::size_t most, int flags) {
    std::uint8_t block[kBlock];
    const ssize_t n = recv(fd_, block, std::min({most, kBlock, total_ - received_}), flags);
    if (n < 0) return failed();
    if (n == 0) return {End::kWrong};
    const auto got = static_cast<std::size_t>(n);
    const bool same = std::memcmp(expected_.peek(got), block, got) == 0;
    expected_.advance(got);
    received_ += got;
    return {same ? End::kOk : End::kWrong};
  }
  // All is back: the end of the stream, and nothing more, must follow.
  Outcome finish() {
    char more;
    if (shutdown(fd_, SHUT_WR) != 0) return failed();
    const ssize_t n = recv(fd_, &more, 1, 0);
    if (n < 0) return failed();
    return {n == 0 ? End::kOk : End::kWrong};
  }

  int fd_;
  unsigned patience_ms_;
  Random sizes_;
  std::size_t total_;
  Stream sending_;
  Stream expected_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
};

}  // namespace shunt::test
