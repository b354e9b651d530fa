// What the running kernel answers for a TCP socket: a fresh one, and a connected one.
//
// Rules, limits and defaults of options differ between kernels and settings; so they are asked of
// the kernel, not repeated here. Thread safety: any thread. errno is untouched.
#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace shunt::sockets {

// A TCP socket that was never used; closed at the end of the scope.
class FreshSocket {
 public:
  explicit FreshSocket(int family);
  ~FreshSocket();
  FreshSocket(const FreshSocket&) = delete;
  FreshSocket& operator=(const FreshSocket&) = delete;
  int fd() const { return fd_; }  // -errno: no descriptor or no memory

 private:
  int fd_;
};

inline constexpr std::size_t kTcpInfoCapacity = 512;

// Values of a TCP connection over the loopback device, just after its set-up. Asked once for each
// family and process; where that fails (the device is down, no descriptors), constants.
struct ConnectedModel {
  std::int32_t send_buffer;
  std::int32_t segment_bytes;  // TCP_MAXSEG
  std::int32_t window_clamp;
  std::int32_t mtu;
  std::uint32_t info_bytes;  // how long the kernel's TCP_INFO is; 0: unknown
  alignas(8) std::uint8_t info[kTcpInfoCapacity];
};
ConnectedModel connected_model(int family);

}  // namespace shunt::sockets
