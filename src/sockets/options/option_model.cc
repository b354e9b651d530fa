#include "sockets/options/option_model.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <atomic>
#include <cstring>

#include "sockets/thread/lock.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr timespec kPatience{0, 50'000'000};

// Linux's values for the loopback device with default settings.
constexpr std::int32_t kSendBuffer = 2'626'560;
constexpr std::int32_t kSegmentBytes = 65'483;
constexpr std::int32_t kWindowClamp = 65'536;
constexpr std::int32_t kMtu = 65'536;

struct Kept {
  Lock lock;
  std::atomic<bool> ready;
  ConnectedModel model;
};
constinit Kept kept[2]{};  // IPv4, IPv6

struct Address {
  sockaddr_storage storage;
  socklen_t length;
};

Address loopback(int family) {
  Address a{};
  if (family == AF_INET6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&a.storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_addr.s6_addr[15] = 1;
    a.length = sizeof *in6;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&a.storage);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.length = sizeof *in;
  }
  return a;
}

// Connects without waiting for an accept, as TCP does. A firewall may swallow the attempt.
bool connect_pair(int family, int listener, int client) {
  Address a = loopback(family);
  if (sys::bind(listener, &a.storage, a.length) != 0 || sys::listen(listener, 1) != 0 ||
      sys::getsockname(listener, &a.storage, &a.length) != 0) {
    return false;
  }
  // Reset at close: nothing of it stays behind in TIME_WAIT.
  const linger reset{1, 0};
  sys::setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (sys::connect(client, &a.storage, a.length) == 0) return true;
  pollfd p{client, POLLOUT, 0};
  int error = 0;
  socklen_t length = sizeof error;
  return sys::ppoll(&p, 1, &kPatience, nullptr) == 1 &&
         sys::getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

void ask_int(int fd, int level, int name, std::int32_t* out) {
  std::int32_t value = 0;
  socklen_t length = sizeof value;
  if (sys::getsockopt(fd, level, name, &value, &length) == 0 && value > 0) *out = value;
}

void ask_values(int family, int fd, ConnectedModel* model) {
  ask_int(fd, SOL_SOCKET, SO_SNDBUF, &model->send_buffer);
  ask_int(fd, IPPROTO_TCP, TCP_MAXSEG, &model->segment_bytes);
  ask_int(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &model->window_clamp);
  if (family == AF_INET6) {
    ask_int(fd, IPPROTO_IPV6, IPV6_MTU, &model->mtu);
  } else {
    ask_int(fd, IPPROTO_IP, IP_MTU, &model->mtu);
  }
}

ConnectedModel make_model(int family) {
  ConnectedModel model{};
  model.send_buffer = kSendBuffer;
  model.segment_bytes = kSegmentBytes;
  model.window_clamp = kWindowClamp;
  model.mtu = kMtu;
  const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const int listener = sys::socket(family, type, IPPROTO_TCP);
  const int client = sys::socket(family, type, IPPROTO_TCP);
  if (client >= 0) {
    if (listener >= 0 && connect_pair(family, listener, client)) ask_values(family, client, &model);
    // Also when it is not connected: the length is right at least.
    socklen_t length = sizeof model.info;
    if (sys::getsockopt(client, IPPROTO_TCP, TCP_INFO, model.info, &length) == 0) {
      model.info_bytes = length;
    }
    sys::close(client);
  }
  if (listener >= 0) sys::close(listener);
  return model;
}

}  // namespace

FreshSocket::FreshSocket(int family)
    : fd_(sys::socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP)) {}

FreshSocket::~FreshSocket() {
  if (fd_ >= 0) sys::close(fd_);
}

ConnectedModel connected_model(int family) {
  Kept& k = kept[family == AF_INET6 ? 1 : 0];
  // Acquire: pairs with the release below.
  if (k.ready.load(std::memory_order_acquire)) return k.model;
  const ConnectedModel model = make_model(family);
  // Never released: written once. A child forked in the middle just asks every time.
  if (model.info_bytes != 0 && k.lock.try_acquire()) {
    k.model = model;
    k.ready.store(true, std::memory_order_release);
  }
  return model;
}

}  // namespace shunt::sockets
