// What sendfile and splice share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

inline constexpr std::size_t kMaxTransfer = 0x7ffff000;  // Linux: MAX_RW_COUNT
inline constexpr std::size_t kBufferBytes = 128 * 1024;

// Too large for a small thread's stack; one is kept for the next call. data() null: no memory.
class TransferBuffer {
 public:
  TransferBuffer();
  ~TransferBuffer();
  TransferBuffer(const TransferBuffer&) = delete;
  TransferBuffer& operator=(const TransferBuffer&) = delete;
  std::uint8_t* data() const { return static_cast<std::uint8_t*>(at_); }

 private:
  void* at_;
};

// Keeps the socket for the call. ours() false: the descriptor is another file by now.
class Pinned {
 public:
  Pinned(int fd, Socket* socket) : socket_(socket) {
    pin(socket);
    ours_ = lookup(fd) == socket;
  }
  ~Pinned() { unpin(socket_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  bool ours() const { return ours_; }

 private:
  Socket* socket_;
  bool ours_;
};

// What certainly fits at this moment; 0 also when a send would fail.
std::uint64_t send_space(Socket* socket);
Outcome send_once(int fd, Socket* socket, const std::uint8_t* data, std::size_t size);

}  // namespace shunt::sockets
