// Descriptors through a UNIX socket: SCM_RIGHTS.
#include <system_error>

#include "net.h"

namespace shunt::test {
namespace {

constexpr std::size_t kFdsMax = 4;
using Control = char[CMSG_SPACE(kFdsMax * sizeof(int))];

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

void pass(int channel, const std::vector<int>& fds, const std::string& text) {
  alignas(cmsghdr) Control control = {};
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  if (sendmsg(channel, &message, 0) != static_cast<ssize_t>(text.size())) fail("sendmsg");
}

std::vector<Fd> taken(int channel) {
  char text[16];
  alignas(cmsghdr) Control control;
  iovec part{text, sizeof text};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) <= 0) fail("recvmsg");
  std::vector<Fd> fds;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  const std::size_t count = header == nullptr ? 0 : (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (std::size_t i = 0; i < count; ++i) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    fds.emplace_back(fd);
  }
  return fds;
}

}  // namespace shunt::test
