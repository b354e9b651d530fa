#include "sys/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "sys/kernel.h"

namespace shunt::sys {
namespace {

constexpr std::uint8_t kTcpListen = 10;  // TCP_LISTEN of the kernel's tcp_states.h
constexpr std::uint32_t kSequence = 1;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Request make_request(int family, const std::uint8_t* address, std::uint16_t port) {
  Request r{};
  r.header.nlmsg_len = sizeof r;
  r.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  r.header.nlmsg_flags = NLM_F_REQUEST;
  r.header.nlmsg_seq = kSequence;
  r.body.sdiag_family = static_cast<std::uint8_t>(family);
  r.body.sdiag_protocol = IPPROTO_TCP;
  r.body.idiag_states = 1u << kTcpListen;
  r.body.id.idiag_sport = htons(port);
  std::memcpy(r.body.id.idiag_src, address, family == AF_INET ? 4 : 16);
  r.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  r.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return r;
}

Result<std::uint32_t> parse(const std::uint8_t* bytes, std::size_t size) {
  nlmsghdr header;
  if (size < sizeof header) return Error{EBADMSG};
  std::memcpy(&header, bytes, sizeof header);
  if (header.nlmsg_type == NLMSG_ERROR) {
    int error = 0;
    if (size < sizeof header + sizeof error) return Error{EBADMSG};
    std::memcpy(&error, bytes + sizeof header, sizeof error);
    return Error{error < 0 ? -error : EBADMSG};
  }
  inet_diag_msg found;
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || size < NLMSG_HDRLEN + sizeof found) {
    return Error{EBADMSG};
  }
  std::memcpy(&found, bytes + NLMSG_HDRLEN, sizeof found);
  // The lookup may have found a connected socket of the same address: not a listener.
  if (found.idiag_state != kTcpListen) return Error{ENOENT};
  return found.idiag_uid;
}

Result<std::uint32_t> ask(int socket, const Request& request) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  // Connected: only the kernel (port 0) can send to this socket.
  const int r = sys::connect(socket, &kernel, sizeof kernel);
  if (r < 0) return Error{-r};
  long n = sys::send(socket, &request, sizeof request, MSG_NOSIGNAL);
  if (n < 0) return Error{static_cast<int>(-n)};
  alignas(nlmsghdr) std::uint8_t answer[1024];
  do {
    n = sys::recv(socket, answer, sizeof answer, 0);  // the kernel answers before send() returns
  } while (n == -EINTR);
  if (n < 0) return Error{static_cast<int>(-n)};
  return parse(answer, static_cast<std::size_t>(n));
}

}  // namespace

Result<std::uint32_t> tcp_listener_uid(int family, const std::uint8_t* address,
                                       std::uint16_t port) {
  if (family != AF_INET && family != AF_INET6) return Error{EAFNOSUPPORT};
  const int socket = sys::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (socket < 0) return Error{-socket};
  const auto uid = ask(socket, make_request(family, address, port));
  sys::close(socket);
  return uid;
}

}  // namespace shunt::sys
