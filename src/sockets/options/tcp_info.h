// TCP_INFO of a shunted or plain connection: a loopback TCP connection's, with this one's state and counts.
//
// Thread safety: any thread.
#pragma once

#include "sockets/options/option_model.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

struct TcpInfoBytes {
  alignas(8) std::uint8_t bytes[kTcpInfoCapacity];
};

// Returns how many bytes the running kernel's TCP_INFO has.
std::uint32_t make_tcp_info(int fd, Socket* socket, TcpInfoBytes* out);

}  // namespace shunt::sockets
