// Messages with descriptors over AF_UNIX sockets, never blocking.
//
// Descriptors arrive close-on-exec and owned, all that were sent: one that the kernel had to drop for want of room
// would be closed in the middle of the call. The driver only passes them on: it never reads, writes or maps what
// they refer to, and does not wait for their end (stranger_fd.h).
//
// Thread safety: no shared state.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "driver/strangers/stranger_fd.h"

namespace shunt::driver {

inline constexpr std::size_t kPassedFdsMax = 4;

// 0 when all was sent, otherwise errno (EAGAIN: not now).
int send_with_fds(int socket, std::span<const std::uint8_t> bytes, std::span<const int> fds);

struct Received {
  int error = 0;                // errno of recvmsg(); EAGAIN: nothing there
  std::size_t size = 0;         // 0 without error: end of connection (or an empty message)
  bool cut = false;             // bytes or descriptors did not fit or could not be installed
  std::optional<ucred> sender;  // with SO_PASSCRED only
  std::vector<StrangerFd> fds;
};
Received receive_with_fds(int socket, std::span<std::uint8_t> bytes);

// From now on nobody can send any to this socket, where the kernel knows that (Linux 6.16).
void refuse_descriptors(int socket);

}  // namespace shunt::driver
