#include "sockets/options/connection_ioctl.h"

#include <asm-generic/ioctls.h>
#include <linux/sockios.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "sockets/options/option_model.h"
#include "sockets/process/result.h"
#include "sockets/stream/stream.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr unsigned kSocketIoctls = 0x89;  // the letter of <linux/sockios.h>

long put_count(std::uint64_t count, void* argument) {
  if (argument == nullptr) return -EFAULT;
  const auto number = static_cast<int>(std::min<std::uint64_t>(count, INT_MAX));
  std::memcpy(argument, &number, sizeof number);
  return 0;
}

long set_nonblocking(int fd, Socket* s, void* argument) {
  // The kernel reads the argument first: it may be a bad address.
  const long result = sys::ioctl(fd, FIONBIO, argument);
  if (result < 0) return result;
  int on;
  std::memcpy(&on, argument, sizeof on);
  s->connection->nonblocking.store(on != 0, std::memory_order_relaxed);
  return 0;
}

}  // namespace

Outcome connection_ioctl(int fd, Socket* s, unsigned long request, void* argument) {
  switch (request) {
    case FIONREAD:  // SIOCINQ, TIOCINQ
      return put_count(bytes_available(s), argument);
    case TIOCOUTQ:  // SIOCOUTQ
      return put_count(bytes_unsent(s), argument);
    case SIOCOUTQNSD:
    case SIOCATMARK:
      return put_count(0, argument);
    case FIONBIO:
      return set_nonblocking(fd, s, argument);
    case FIOASYNC: {
      // SIGIO would tell of rings, not of bytes.
      int on = 0;
      if (argument == nullptr) return -EFAULT;
      std::memcpy(&on, argument, sizeof on);
      return on == 0 ? kPassOn : -EOPNOTSUPP;
    }
    case FIOSETOWN:
    case SIOCSPGRP:
    case FIOGETOWN:
    case SIOCGPGRP:
      return kPassOn;
    default:
      break;
  }
  if ((request >> 8 & 0xff) != kSocketIoctls) return kPassOn;
  // Questions about interfaces and routes go to an IP socket; a bell would not know.
  const FreshSocket fresh(s->family);
  if (fresh.fd() < 0) return -ENOBUFS;
  return sys::ioctl(fresh.fd(), request, argument);
}

}  // namespace shunt::sockets
