#include "sockets/setup/driver_request.h"

#include <cerrno>

#include "sockets/process/config.h"
#include "sockets/thread/cancel.h"
#include "sys/kernel.h"
#include "wire/partition_table.h"

namespace shunt::sockets {
namespace {

// How long a driver may take. A non-blocking caller has an event loop to go back to; with --require
// there is no other way to wait for, so patience costs nothing.
constexpr std::int64_t kBlockingNs = 3'000'000'000;
constexpr std::int64_t kNonblockingNs = 250'000'000;
constexpr std::int64_t kRequiredNs = 10'000'000'000;

int connect_to_driver() {
  const Result<sockaddr_un> address =
      wire::window_socket(config_window(), own_partition()->name(), wire::kDriverSuffix);
  if (!address.ok()) return -1;
  const int fd = sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int r = 0;
  {
    const Undo undo([fd] { sys::close(fd); });
    const CancelPoint point;
    r = sys::connect(fd, &address.value(), sizeof(sockaddr_un));
  }
  if (r == 0 && from_driver(fd)) return fd;
  sys::close(fd);
  return -1;
}

// STATUS, with what it must bring: nothing, or the area.
wire::Reason accepted(const wire::Message& status, int device, Grant* grant) {
  const bool brings_area = status.area.object == wire::kObjectWindow && device >= 0;
  if (grant == nullptr || brings_area) {
    if (grant != nullptr) *grant = {device, status.area, status.generation};
    if (grant == nullptr && device >= 0) sys::close_received(device);
    return wire::Reason::kNone;
  }
  if (device >= 0) sys::close_received(device);
  return wire::Reason::kVersion;
}

// The driver's verdict: kNone when the request is in the listener's backlog. `grant`: null unless it brings an area.
wire::Reason await_verdict(int driver, std::int64_t deadline, Grant* grant) {
  for (;;) {
    const std::int64_t left = deadline - sys::monotonic_ns();
    if (left <= 0) return wire::Reason::kDriverDown;
    const timespec timeout = sys::timespec_of(left);
    pollfd p{driver, POLLIN, 0};
    int r = 0;
    {
      const CancelPoint point;
      r = sys::ppoll(&p, 1, &timeout, nullptr);
    }
    if (r == -EINTR) continue;
    if (r <= 0) return wire::Reason::kDriverDown;
    wire::MessageBytes bytes;
    int device = -1;
    int fd_count = 0;
    const long n = sys::recv_fds(driver, bytes.data(), bytes.size(), &device, 1, &fd_count, 0);
    if (n == -EINTR) continue;
    if (n <= 0) return wire::Reason::kDriverDown;
    const Result<wire::Message> m = wire::decode(bytes.data(), static_cast<std::size_t>(n));
    if (m.ok() && m.value().type == wire::MessageType::kStatus) {
      return accepted(m.value(), device, grant);
    }
    if (device >= 0) sys::close_received(device);
    if (!m.ok()) return wire::Reason::kVersion;
    const auto reason = static_cast<wire::Reason>(m.value().reason);
    return reason == wire::Reason::kNone ? wire::Reason::kRefused : reason;
  }
}

}  // namespace

bool from_driver(int fd) {
  if (partition_table() == nullptr) return false;
  ucred cred{};
  socklen_t length = sizeof cred;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return false;
  return cred.uid == 0 || cred.uid == window_owner_uid();
}

int request_from_driver(const wire::Message& connect, int area_fd, int reservation_fd,
                        bool nonblocking, wire::Reason* reason, Grant* grant) {
  const std::int64_t patience = require_shared_memory() ? kRequiredNs
                                : nonblocking           ? kNonblockingNs
                                                        : kBlockingNs;
  const std::int64_t deadline = sys::monotonic_ns() + patience;
  *reason = wire::Reason::kDriverDown;
  const int driver = connect_to_driver();
  if (driver < 0) return -1;
  int bell[2];
  *reason = wire::Reason::kNoMemory;
  if (sys::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bell) != 0) {
    sys::close(driver);
    return -1;
  }
  const wire::MessageBytes bytes = wire::encode(connect);
  const bool own_area = area_fd >= 0;
  const int fds[3] = {area_fd, reservation_fd, bell[1]};
  *reason = wire::Reason::kDriverDown;
  if (sys::send_fds(driver, bytes.data(), bytes.size(), own_area ? fds : fds + 1, own_area ? 3 : 2,
                    0) == static_cast<long>(bytes.size())) {
    sys::close(bell[1]);
    const Undo undo([driver, &bell] {
      sys::close(driver);
      sys::close(bell[0]);
    });
    *reason = await_verdict(driver, deadline, own_area ? nullptr : grant);
  } else {
    sys::close(bell[1]);
  }
  sys::close(driver);
  if (*reason == wire::Reason::kNone) return bell[0];
  sys::close(bell[0]);
  return -1;
}

}  // namespace shunt::sockets
