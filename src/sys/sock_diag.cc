#include "sys/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sys/kernel.h"

namespace shunt::sys {
namespace {

constexpr std::uint8_t kTcpListen = 10;  // TCP_LISTEN of the kernel's tcp_states.h
constexpr std::uint32_t kSequence = 1;
constexpr std::size_t kDumpBytes =
    16384;  // what the kernel gives at once is smaller on every architecture

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

// 0 or -errno: the request is with the kernel.
int submit(int socket, const void* request, std::size_t size) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  // Connected: only the kernel (port 0) can send to this socket.
  const int r = sys::connect(socket, &kernel, sizeof kernel);
  if (r < 0) return r;
  return static_cast<int>(std::min(sys::send(socket, request, size, MSG_NOSIGNAL), 0L));
}

long receive(int socket, std::uint8_t* out, std::size_t size) {
  for (;;) {
    const long n = sys::recv(socket, out, size, 0);  // the kernel answers before send() returns
    if (n != -EINTR) return n;
  }
}

Result<std::uint32_t> ask(int socket, const Request& request) {
  const int r = submit(socket, &request, sizeof request);
  if (r < 0) return Error{-r};
  alignas(nlmsghdr) std::uint8_t answer[1024];
  const long n = receive(socket, answer, sizeof answer);
  if (n < 0) return Error{static_cast<int>(-n)};
  return parse(answer, static_cast<std::size_t>(n));
}

struct UnixRequest {
  nlmsghdr header;
  unix_diag_req body;
};

UnixRequest make_unix_request() {
  UnixRequest r{};
  r.header.nlmsg_len = sizeof r;
  r.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  r.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  r.header.nlmsg_seq = kSequence;
  r.body.sdiag_family = AF_UNIX;
  r.body.udiag_states = 1u << kTcpListen;
  r.body.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID;
  return r;
}

struct Name {
  const char* bytes;
  std::size_t size;
};

// What one message of a dump says of the listener of that name. ENOENT: it is about another one.
Result<std::uint32_t> parse_unix(const std::uint8_t* message, std::size_t size, Name name) {
  unix_diag_msg found;
  if (size < NLMSG_HDRLEN + sizeof found) return Error{EBADMSG};
  std::memcpy(&found, message + NLMSG_HDRLEN, sizeof found);
  if (found.udiag_type != SOCK_STREAM || found.udiag_state != kTcpListen) return Error{ENOENT};
  bool named = false;
  bool told = false;
  std::uint32_t uid = 0;
  nlattr attribute;
  for (std::size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof found); at + sizeof attribute <= size;
       at += NLMSG_ALIGN(attribute.nla_len)) {
    std::memcpy(&attribute, message + at, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > size - at)
      return Error{EBADMSG};
    const std::uint8_t* value = message + at + sizeof attribute;
    const std::size_t length = attribute.nla_len - sizeof attribute;
    if (attribute.nla_type == UNIX_DIAG_NAME) {
      named = length == name.size && std::memcmp(value, name.bytes, length) == 0;
    } else if (attribute.nla_type == UNIX_DIAG_UID && length == sizeof uid) {
      std::memcpy(&uid, value, sizeof uid);
      told = true;
    }
  }
  if (!named) return Error{ENOENT};
  if (!told) return Error{ENOTSUP};
  return uid;
}

// Several messages. EAGAIN: more are to come.
Result<std::uint32_t> parse_dump(const std::uint8_t* bytes, std::size_t size, Name name) {
  nlmsghdr header;
  for (std::size_t at = 0; at + sizeof header <= size; at += NLMSG_ALIGN(header.nlmsg_len)) {
    std::memcpy(&header, bytes + at, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > size - at) return Error{EBADMSG};
    if (header.nlmsg_type == NLMSG_DONE) return Error{ENOENT};
    if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return parse(bytes + at, header.nlmsg_len);
    const auto uid = parse_unix(bytes + at, header.nlmsg_len, name);
    if (uid.ok() || uid.error() != ENOENT) return uid;
  }
  return Error{EAGAIN};
}

Result<std::uint32_t> search(int socket, Name name) {
  const UnixRequest request = make_unix_request();
  const int r = submit(socket, &request, sizeof request);
  if (r < 0) return Error{-r};
  // Not on the stack: a signal handler's may be small.
  void* memory =
      sys::mmap(nullptr, kDumpBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == nullptr) return Error{ENOMEM};
  auto* answer = static_cast<std::uint8_t*>(memory);
  Result<std::uint32_t> uid = Error{EAGAIN};
  while (!uid.ok() && uid.error() == EAGAIN) {
    const long n = receive(socket, answer, kDumpBytes);
    if (n <= 0) {
      uid = Error{n == 0 || n == -EAGAIN ? EBADMSG : static_cast<int>(-n)};
      break;
    }
    uid = parse_dump(answer, static_cast<std::size_t>(n), name);
  }
  sys::munmap(memory, kDumpBytes);
  return uid;
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

Result<std::uint32_t> unix_listener_uid(const char* name, std::size_t size) {
  const int socket = sys::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (socket < 0) return Error{-socket};
  const auto uid = search(socket, {name, size});
  sys::close(socket);
  return uid;
}

}  // namespace shunt::sys
