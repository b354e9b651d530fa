// The boundary: results with negative errno inside, -1 and errno outside.
//
// errno is written only when a call fails. Exported functions are C functions of libc's names; they
// contain no logic beyond choosing between the provider and libc.
#pragma once

#include <errno.h>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"
#include "sockets/process/status.h"

#define SHUNT_EXPORT extern "C" __attribute__((visibility("default")))

namespace shunt::preload {

template <typename R = int>
R finish(sockets::Outcome outcome) {
  const long result = outcome.value();
  if (result >= 0) return static_cast<R>(result);
  errno = static_cast<int>(-result);
  return static_cast<R>(-1);
}

inline sockets::Socket* of_kind(int fd, sockets::Kind kind) {
  sockets::Socket* s = sockets::lookup(fd);
  return s != nullptr && s->kind.load(std::memory_order_acquire) == kind ? s : nullptr;
}

// A connection that is no kernel TCP socket: carried in shared memory, or plain.
inline sockets::Socket* stand_in_at(int fd) {
  sockets::Socket* s = of_kind(fd, sockets::Kind::kConnection);
  return s != nullptr ? s : of_kind(fd, sockets::Kind::kPlain);
}

// Calls `operation` on the shunted connection behind `fd`; again if the descriptor changed hands
// just then. kPassOn: there is none.
template <typename Operation>
sockets::Outcome on_connection(int fd, Operation operation) {
  for (;;) {
    sockets::Socket* s = of_kind(fd, sockets::Kind::kConnection);
    if (s == nullptr) return sockets::kPassOn;
    const sockets::Outcome r = operation(s);
    if (r != sockets::kNotOurs) return r;
  }
}

// What the kernel would refuse before looking: the first pages and its own half of the addresses.
inline bool bad_range(const void* at, std::size_t size) {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  return size > 0 &&
         (address < 0x10000 || address + size >= 0x7fff'ffff'f000 || address + size < address);
}

// Bytes moved by libc: on a connection that stayed on kernel TCP, or is plain.
inline ssize_t counted_in(int fd, ssize_t n) {
  sockets::Socket* s = n > 0 ? sockets::lookup(fd) : nullptr;
  if (s == nullptr) return n;
  const auto bytes = static_cast<std::uint64_t>(n);
  const sockets::Kind kind = s->kind.load(std::memory_order_acquire);
  const bool plain = kind == sockets::Kind::kPlain;
  if (plain || kind == sockets::Kind::kKernelTcp) sockets::add_received(s->status, bytes);
  if (plain) s->connection->bytes_received.fetch_add(bytes, std::memory_order_relaxed);
  return n;
}
inline ssize_t counted_out(int fd, ssize_t n) {
  sockets::Socket* s = n > 0 ? sockets::lookup(fd) : nullptr;
  if (s == nullptr) return n;
  const auto bytes = static_cast<std::uint64_t>(n);
  const sockets::Kind kind = s->kind.load(std::memory_order_acquire);
  const bool plain = kind == sockets::Kind::kPlain;
  if (plain || kind == sockets::Kind::kKernelTcp) sockets::add_sent(s->status, bytes);
  if (plain) s->connection->bytes_sent.fetch_add(bytes, std::memory_order_relaxed);
  return n;
}

}  // namespace shunt::preload
