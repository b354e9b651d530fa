#include "sockets/downgrade/label.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <cstring>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kMagic = 0x50544853;  // "SHTP" in memory
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kEndpointWords = 5;  // family and port, address
constexpr std::size_t kWords = 2 + 2 * kEndpointWords;
constexpr std::size_t kInstructions = kWords + 1;
using Filter = sock_filter[kInstructions];

constexpr std::uint32_t pair(std::uint32_t high, std::uint32_t low) { return high << 16 | low; }

void put_endpoint(std::uint32_t* words, const wire::Endpoint& e) {
  words[0] = pair(e.family, e.port);
  static_assert(sizeof e.address == 4 * (kEndpointWords - 1));
  std::memcpy(words + 1, e.address.data(), sizeof e.address);
}

wire::Endpoint get_endpoint(const std::uint32_t* words) {
  wire::Endpoint e;
  e.family = static_cast<std::uint16_t>(words[0] >> 16);
  e.port = static_cast<std::uint16_t>(words[0]);
  std::memcpy(e.address.data(), words + 1, sizeof e.address);
  return e;
}

void make_filter(const Label& label, Filter* out) {
  std::uint32_t words[kWords] = {kMagic, pair(kVersion, label.family)};
  put_endpoint(words + 2, label.local);
  put_endpoint(words + 2 + kEndpointWords, label.remote);
  for (std::size_t i = 0; i < kWords; ++i) (*out)[i] = BPF_STMT(BPF_LD | BPF_IMM, words[i]);
  (*out)[kWords] = BPF_STMT(BPF_RET | BPF_K, ~0U);
}

// Whether an endpoint can be told to the program as an address of `family`. Each has one form only: what
// from_sockaddr() makes of it.
bool valid(const wire::Endpoint& e, std::uint16_t family) {
  sockaddr_storage address;
  const socklen_t length = wire::to_sockaddr(e, family, &address);
  if (length == 0) return false;
  const auto again = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  return again.ok() && again.value() == e;
}

int int_option(int fd, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return sys::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

}  // namespace

bool write_label(int bell, const Label& label) {
  Filter filter;
  make_filter(label, &filter);
  const sock_fprog program{kInstructions, filter};
  return sys::setsockopt(bell, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

bool read_label(int fd, Label* label) {
  if (int_option(fd, SO_DOMAIN) != AF_UNIX || int_option(fd, SO_TYPE) != SOCK_STREAM) return false;
  Filter filter{};
  socklen_t count = kInstructions;  // the unit of this option
  if (sys::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, filter, &count) < 0) return false;
  if (count != kInstructions) return false;
  std::uint32_t words[kWords];
  for (std::size_t i = 0; i < kWords; ++i) words[i] = filter[i].k;
  const Label found{get_endpoint(words + 2), get_endpoint(words + 2 + kEndpointWords),
                    static_cast<std::uint16_t>(words[1])};
  // What is not exactly as we write it is somebody else's filter.
  Filter expected;
  make_filter(found, &expected);
  if (std::memcmp(filter, expected, sizeof filter) != 0) return false;
  if (found.family != AF_INET && found.family != AF_INET6) return false;
  if (!valid(found.local, found.family) || !valid(found.remote, found.family)) return false;
  *label = found;
  return true;
}

}  // namespace shunt::sockets
