#include "sockets/setup/connect.h"

#include <cerrno>

#include "base/trace.h"
#include "sockets/arenas/links.h"
#include "sockets/connection/areas.h"
#include "sockets/connection/peer_place.h"
#include "sockets/options/option_setup.h"
#include "sockets/process/config.h"
#include "sockets/process/identity.h"
#include "sockets/process/result.h"
#include "sockets/process/status.h"
#include "sockets/setup/driver_request.h"
#include "sockets/setup/establish.h"
#include "sockets/setup/local_address.h"
#include "sockets/setup/port.h"
#include "sockets/setup/rendezvous.h"
#include "sockets/thread/cancel.h"
#include "sockets/wait/epoll_registry.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

// connect() to the unspecified address means the loopback.
wire::Endpoint resolve_any(wire::Endpoint e) {
  if (!e.is_any()) return e;
  if (e.family == AF_INET) {
    e.address[0] = 127;
    e.address[3] = 1;
  } else {
    e.address[15] = 1;
  }
  return e;
}

wire::Endpoint natural_source(const wire::Endpoint& destination, bool other_partition) {
  wire::Endpoint source = destination;
  source.port = 0;
  if (!other_partition) {
    if (destination.family == AF_INET && destination.is_loopback()) {
      source.address = {127, 0, 0, 1};
    }
    return source;
  }
  // As the kernel would route it; the driver checks that it is one of this partition's.
  wire::Endpoint routed;
  if (source_towards(destination, &routed) && own_partition() != nullptr &&
      own_partition()->owns(routed)) {
    return routed;
  }
  for (std::uint32_t i = 0; own_partition() != nullptr && i < own_partition()->address_count; ++i) {
    if (own_partition()->addresses[i].family == destination.family) {
      return own_partition()->addresses[i];
    }
  }
  return source;
}

struct Attempt {
  int fd;
  Socket* socket;
  wire::Endpoint destination;
  bool nonblocking;
  const wire::Partition* partition;  // null: direct
  int bell;                          // direct: connected; else made here
  LinkKey listener;                  // direct: who was reached
  bool keeps_socket = true;          // the program's TCP socket holds the port
  bool taken = false;                // source and destination are another connection's
};

// Puts the bell where the program's TCP socket was, under each of its descriptors; where the TCP socket holds the port it
// goes on doing that at a high number.
bool swap_descriptors(const Attempt& a) {
  Socket* s = a.socket;
  if (a.keeps_socket) {
    const int reservation = sys::fcntl(a.fd, F_DUPFD_CLOEXEC, 3);
    if (reservation < 0) return false;
    s->reservation = sys::move_high(reservation);
  }
  detach_registrations(s);
  const auto replace = [&a](int fd) {
    const bool close_on_exec = (sys::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
    sys::dup3(a.bell, fd, close_on_exec ? O_CLOEXEC : 0);
  };
  constexpr std::uint32_t kOnlyOne = 2;  // the descriptor, and the caller's pin
  if (s->refs.load(std::memory_order_acquire) <= kOnlyOne) {
    replace(a.fd);
  } else {
    for (int fd = next_descriptor(s, 0, -1); fd >= 0; fd = next_descriptor(s, fd + 1, -1))
      replace(fd);
  }
  sys::close(a.bell);
  return true;
}

bool areas_given(const Attempt& a) { return a.partition != nullptr && areas_from_driver(); }

// To the driver of a window on a device, which chooses the own area.
bool request_area(Attempt& a, Parts* parts, const wire::Message& m, wire::Reason* reason) {
  Grant grant;
  a.bell = request_from_driver(m, -1, a.fd, a.nonblocking, reason, &grant);
  if (a.bell < 0) return false;
  const bool adopted = adopt_range(parts, grant.device, grant.where, grant.generation);
  sys::close(grant.device);
  *reason = wire::Reason::kNoMemory;
  return adopted;
}

bool deliver_by_driver(Attempt& a, Parts& parts, wire::Endpoint* source, wire::Reason* reason) {
  *reason = wire::Reason::kBadSource;
  if (!reserve_port(a.fd, a.socket, natural_source(a.destination, true), source)) return false;
  *reason = wire::Reason::kNoMemory;
  wire::Message m;
  m.type = wire::MessageType::kConnect;
  m.source = *source;
  m.destination = a.destination;
  if (areas_given(a)) return request_area(a, &parts, m, reason);
  if (!own_object(&parts)) return false;
  m.generation = parts.generation;
  m.area = own_location();
  a.bell = request_from_driver(m, parts.area_fd, a.fd, a.nonblocking, reason, nullptr);
  return a.bell >= 0;
}

// Straight to the listener, which has been reached: a place of the arena that belongs to it. Waits for nothing.
bool deliver_straight(Attempt& a, Parts& parts, wire::Endpoint* source, wire::Reason* reason) {
  Offer offer;
  *reason = wire::Reason::kNoMemory;
  a.listener.own_uid = own_user();
  if (!offer_place(a.listener, &offer)) return false;
  own_place(&parts, offer.place, offer.generation);
  adopt_options(parts.connection, a.fd, a.socket->family);
  const bool alone = offer.place.arena->alone;
  SourcePort port;
  const auto send = [&] {
    if (alone && !reserve_for_peer(parts.connection)) return false;
    *reason = wire::Reason::kBadSource;
    const wire::Endpoint natural = natural_source(a.destination, false);
    const bool shown = a.listener.uid != a.listener.own_uid || a.listener.uid == kNobody;
    parts.connection->trusts_peer = !shown || a.listener.uid == 0;
    if (!source_port(a.fd, a.socket, natural, offer.place, shown, &port)) return false;
    // A foreign address (IP_FREEBIND, IP_TRANSPARENT) nobody would believe; the kernel says whether it may connect.
    if (!port.source.same_address(natural) && !is_local(port.source)) return false;
    a.keeps_socket = port.by_program;
    *source = port.source;
    a.taken = port.by_program && !claim(a.bell, port.source, a.destination);
    if (a.taken) return false;
    wire::Message m;
    m.type = wire::MessageType::kConnect;
    m.generation = offer.generation;
    m.source = port.source;
    m.destination = a.destination;
    m.area = place_location(offer.place);
    m.arena = offer.place.arena->id;
    const wire::MessageBytes bytes = wire::encode(m);
    const int fds[2] = {offer.fd, port.proof};
    *reason = wire::Reason::kRefused;
    return sys::send_fds(a.bell, bytes.data(), bytes.size(), fds, port.proof >= 0 ? 2 : 1,
                         MSG_DONTWAIT) == static_cast<long>(bytes.size());
  };
  const bool told = send();
  if (!told) give_port_back(a.fd, offer.place, port);
  offer_sent(offer, told);
  return told;
}

bool deliver(Attempt& a, Parts& parts, wire::Endpoint* source, wire::Reason* reason) {
  return a.partition == nullptr ? deliver_straight(a, parts, source, reason)
                                : deliver_by_driver(a, parts, source, reason);
}

// Everything from a route to an installed connection. False with *reason: nothing has changed.
bool establish(Attempt& a, wire::Reason* reason) {
  Parts parts;
  wire::Endpoint source;
  *reason = wire::Reason::kNoMemory;
  if (!make_parts(&parts)) return false;
  const auto delivered = [&] {
    const Undo undo([&parts] { discard(&parts); });
    return deliver(a, parts, &source, reason);
  };
  if (!delivered()) {
    discard(&parts);
    return false;
  }
  Connection* c = parts.connection;
  c->local = source;
  c->remote = a.destination;
  c->connecting_side = true;
  c->nonblocking.store(a.nonblocking, std::memory_order_relaxed);
  if (a.partition != nullptr) adopt_options(c, a.fd, a.socket->family);
  if (!a.nonblocking || a.partition != nullptr)
    sys::fcntl(a.bell, F_SETFL, a.nonblocking ? O_NONBLOCK : 0);
  {
    Hold hold(a.socket->lock);
    const bool unchanged = a.socket->kind.load(std::memory_order_acquire) == Kind::kTcp;
    if (!unchanged || !swap_descriptors(a)) {
      *reason = unchanged ? wire::Reason::kNoMemory : wire::Reason::kUnsupportedCall;
      discard(&parts);
      return false;
    }
    if (parts.area_fd >= 0) sys::close(parts.area_fd);
    const char* partition = a.partition != nullptr ? a.partition->name_bytes.data() : nullptr;
    install(a.fd, a.socket, c, partition);
    a.socket->connect_unreported = a.nonblocking;
    SHUNT_TRACE(connect_established, a.fd, c, partition);
  }
  // Not under the lock: who rouses epoll sets holds their registry first and then takes a socket's lock.
  attach_registrations(a.socket);
  return true;
}

Outcome fall_back(int fd, Socket* s, wire::Reason reason) {
  SHUNT_TRACE(fallback, fd, reason);
  {
    Hold hold(s->lock);
    s->reason = reason;
  }
  if (!require_shared_memory()) return kPassOn;
  count_reason(reason);
  return -ECONNREFUSED;
}

// What needs no attempt: an answer, or kNotOurs when there is to be one. `waited`: for another thread's attempt.
Outcome answer_at_once(Socket* s, bool waited) {
  Hold hold(s->lock);
  if (!hold.owns()) return -EALREADY;
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kTcp) return kNotOurs;
  if (kind != Kind::kConnection && kind != Kind::kPlain) return kPassOn;
  if (!s->connect_unreported && !waited) return -EISCONN;
  s->connect_unreported = false;
  return 0;
}

// With `connecting` held.
Outcome attempt(int fd, Socket* s, const sockaddr* address, socklen_t length, bool nonblocking) {
  const Result<wire::Endpoint> parsed = wire::from_sockaddr(address, length);
  // What the kernel rejects, it rejects itself (families, lengths, port 0).
  if (!parsed.ok() || parsed.value().port == 0) return kPassOn;
  if (s->family == AF_INET && address->sa_family != AF_INET) return kPassOn;
  SHUNT_TRACE(connect_begin, fd, address);
  if (s->forbidden) return fall_back(fd, s, s->reason);

  const wire::Endpoint destination = resolve_any(parsed.value());
  Attempt a{fd, s, destination, nonblocking, nullptr, -1, {}};
  wire::Reason reason;
  a.bell = find_rendezvous(fd, destination, a.nonblocking, &a.listener, &reason);
  if (a.bell == -EINTR) return -EINTR;
  bool done = false;
  if (a.bell >= 0) {
    const int bell = a.bell;
    done = establish(a, &reason);
    if (!done) sys::close(bell);
    if (a.taken) return -EADDRNOTAVAIL;
  } else if (const wire::PartitionTable* table = partition_table(); table != nullptr) {
    a.partition = table->by_address(destination);
    if (a.partition == own_partition()) a.partition = nullptr;
    if (a.partition != nullptr) {
      done = establish(a, &reason);
      if (!done && a.bell >= 0) sys::close(a.bell);
    }
  }
  if (!done) return fall_back(fd, s, reason);
  return a.nonblocking ? -EINPROGRESS : 0;
}

}  // namespace

Outcome connect_socket(int fd, Socket* s, const sockaddr* address, socklen_t length) {
  const bool nonblocking = (sys::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
  // As the kernel: while another thread connects the socket a non-blocking call says so, and a blocking one waits
  // for the outcome and shares it.
  const bool first = s->connecting.try_acquire();
  if (!first && (nonblocking || !s->connecting.acquire())) return -EALREADY;
  Outcome r = kNotOurs;
  {
    const Undo undo([s] { s->connecting.release(); });
    r = answer_at_once(s, !first);
    if (r == kNotOurs) r = attempt(fd, s, address, length, nonblocking);
  }
  s->connecting.release();
  return r;
}

void connected_by_kernel(int fd, Socket* s) {
  Hold hold(s->lock);
  if (s->kind.load(std::memory_order_acquire) != Kind::kTcp) return;
  install_kernel(fd, s, s->reason, s->detail);
}

}  // namespace shunt::sockets
