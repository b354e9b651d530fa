#include "sockets/setup/port.h"

#include "sockets/arenas/places.h"
#include "sockets/options/option_rules.h"
#include "sys/kernel.h"
#include "wire/rendezvous_name.h"

namespace shunt::sockets {
namespace {

// What `fd` is bound to; port 0: nothing.
bool bound_to(int fd, const wire::Endpoint& natural, wire::Endpoint* source) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (sys::getsockname(fd, &address, &length) != 0) return false;
  const auto bound = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
  if (!bound.ok()) return false;
  *source = bound.value();
  if (source->port != 0 && source->is_any()) {
    source->family = natural.family;
    source->address = natural.address;
  }
  return true;
}

bool bind_to(int fd, const Socket* s, const wire::Endpoint& natural, wire::Endpoint* source) {
  sockaddr_storage address{};
  const socklen_t length = wire::to_sockaddr(natural, s->family, &address);
  return length != 0 && sys::bind(fd, &address, length) == 0 && bound_to(fd, natural, source) &&
         source->port != 0 && source->family == natural.family;
}

// Of those that the program has set; any other is 0 and stays it.
int exchange_option(int fd, int name, int value) {
  if (!option_marked(find_option(SOL_SOCKET, name))) return 0;
  int before = 0;
  socklen_t length = sizeof before;
  if (sys::getsockopt(fd, SOL_SOCKET, name, &before, &length) != 0 || before == value)
    return before;
  sys::setsockopt(fd, SOL_SOCKET, name, &value, sizeof value);
  return before;
}

// The place keeps `fd`, which the program's own descriptor is about to leave.
bool keep(int fd, bool shown, HeldPort* port) {
  if (!shown) {
    // A TCP socket can be mapped (for zero-copy receive), and a mapping keeps it as a descriptor does.
    port->page = sys::mmap(nullptr, kHeldPortBytes, PROT_NONE, MAP_SHARED, fd, 0);
    if (port->page != nullptr) return true;
  }
  const int high = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (high < 0) return false;
  port->fd = sys::move_high(high);
  return true;
}

}  // namespace

bool source_port(int fd, const Socket* s, const wire::Endpoint& natural, const PlaceRef& place,
                 bool shown, SourcePort* out) {
  if (!bound_to(fd, natural, &out->source)) return false;
  if (out->source.port != 0) {
    out->by_program = true;
    if (shown || out->source.port < kFirstUnprivileged) out->proof = fd;
    return out->source.family == natural.family;
  }
  HeldPort& port = place.arena->places[place.index].port;
  if (port.source.port == 0 || !port.source.same_address(natural) || (shown && port.fd == 0)) {
    release_port(&port);
    out->fresh = true;
    // The program's wish to share the port was not meant for this one, which must be the connection's alone.
    out->reuse_address = exchange_option(fd, SO_REUSEADDR, 0);
    out->reuse_port = exchange_option(fd, SO_REUSEPORT, 0);
    if (!bind_to(fd, s, natural, &out->source) || !keep(fd, shown, &port)) return false;
    port.source = out->source;
  }
  out->source = port.source;
  if (shown) out->proof = port.fd;
  return true;
}

bool reserve_port(int fd, const Socket* s, const wire::Endpoint& natural, wire::Endpoint* source) {
  if (!bound_to(fd, natural, source)) return false;
  return source->port != 0 ? source->family == natural.family : bind_to(fd, s, natural, source);
}

void give_port_back(int fd, const PlaceRef& place, const SourcePort& port) {
  if (!port.fresh) return;
  release_port(&place.arena->places[place.index].port);
  exchange_option(fd, SO_REUSEADDR, port.reuse_address);
  exchange_option(fd, SO_REUSEPORT, port.reuse_port);
}

bool claim(int bell, const wire::Endpoint& source, const wire::Endpoint& destination) {
  const wire::UnixName name = wire::connection_name(source, destination);
  return sys::bind(bell, &name.address, name.length) != -98 /* EADDRINUSE */;
}

}  // namespace shunt::sockets
