#include "wire/rendezvous_name.h"

#include <cstddef>
#include <cstring>

#include "wire/version.h"

namespace shunt::wire {
namespace {

// Appends without stdio: this runs inside connect(), which is async-signal-safe.
class NameBuilder {
 public:
  NameBuilder() : name_{} {
    name_.address.sun_family = AF_UNIX;
    at_ = 1;  // abstract: a leading NUL
  }
  void text(const char* s) {
    while (*s != '\0') put(*s++);
  }
  void number(unsigned n) {
    char digits[10];
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + n % 10);
      n /= 10;
    } while (n != 0);
    while (count > 0) put(digits[--count]);
  }
  void hex(std::uint8_t b) {
    put("0123456789abcdef"[b >> 4]);
    put("0123456789abcdef"[b & 15]);
  }
  void endpoint(const Endpoint& e) {
    const std::size_t bytes = e.family == AF_INET ? 4 : 16;
    for (std::size_t i = 0; i < bytes; ++i) hex(e.address[i]);
    text(":");
    number(e.port);
  }
  UnixName take() {
    name_.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + at_);
    return name_;
  }

 private:
  void put(char c) {
    if (at_ < sizeof name_.address.sun_path) name_.address.sun_path[at_++] = c;
  }
  UnixName name_;
  std::size_t at_;
};

UnixName make(char kind, const Endpoint& e) {
  NameBuilder b;
  b.text("shunt/");
  b.number(kLayoutVersion);
  b.text(".");
  b.number(kWireVersion);
  const char prefix[] = {'/', kind, '/', '\0'};
  b.text(prefix);
  const std::size_t bytes = kind == '4' ? 4 : kind == '6' ? 16 : 0;
  for (std::size_t i = 0; i < bytes; ++i) b.hex(e.address[i]);
  b.text(":");
  b.number(e.port);
  return b.take();
}

}  // namespace

UnixName connection_name(const Endpoint& source, const Endpoint& destination) {
  NameBuilder b;
  b.text("shunt/from/");
  b.endpoint(source);
  b.text("/to/");
  b.endpoint(destination);
  return b.take();
}

UnixName rendezvous_name(const Endpoint& local, bool dual_stack) {
  if (local.family == AF_INET6 && local.is_any() && dual_stack) return make('*', local);
  return make(local.family == AF_INET ? '4' : '6', local);
}

int rendezvous_candidates(const Endpoint& destination, UnixName out[3]) {
  const char kind = destination.family == AF_INET ? '4' : '6';
  Endpoint any = destination;
  any.address = {};
  int count = 0;
  out[count++] = make(kind, destination);
  if (!destination.is_any()) out[count++] = make(kind, any);
  out[count++] = make('*', any);
  return count;
}

bool rendezvous_matches(const Endpoint& local, bool dual_stack, const Endpoint& destination) {
  if (local.port != destination.port) return false;
  if (local.family == AF_INET6 && local.is_any() && dual_stack) return true;
  if (local.family != destination.family) return false;
  return local.is_any() || local.same_address(destination);
}

}  // namespace shunt::wire
