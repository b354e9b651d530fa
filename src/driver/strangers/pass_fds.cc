#include "driver/strangers/pass_fds.h"

#include <cassert>
#include <cerrno>
#include <cstring>

namespace shunt::driver {
namespace {

constexpr std::size_t kSentAtOnceMax = 253;  // SCM_MAX_FD
constexpr int kPassRights = 83;              // SO_PASSRIGHTS

}  // namespace

int send_with_fds(int socket, std::span<const std::uint8_t> bytes, std::span<const int> fds) {
  assert(fds.size() <= kPassedFdsMax);
  iovec iov{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kPassedFdsMax)] = {};
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  if (!fds.empty()) {
    if (fds.size() > kPassedFdsMax) return EINVAL;
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno;
  return static_cast<std::size_t>(sent) == bytes.size() ? 0 : EMSGSIZE;
}

Received receive_with_fds(int socket, std::span<std::uint8_t> bytes) {
  iovec iov{bytes.data(), bytes.size()};
  alignas(
      cmsghdr) char control[CMSG_SPACE(sizeof(int) * kSentAtOnceMax) + CMSG_SPACE(sizeof(ucred))];
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  Received r;
  ssize_t size;
  do {
    size = ::recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    r.error = errno;
    return r;
  }
  r.size = static_cast<std::size_t>(size);
  r.cut = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        r.fds.emplace_back(fd);
      }
    } else if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred sender;
      std::memcpy(&sender, CMSG_DATA(c), sizeof sender);
      r.sender = sender;
    }
  }
  return r;
}

void refuse_descriptors(int socket) {
  const int no = 0;
  ::setsockopt(socket, SOL_SOCKET, kPassRights, &no, sizeof no);  // older kernels answer an error
}

}  // namespace shunt::driver
