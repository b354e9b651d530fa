#include "sockets/setup/accept_handshake.h"

#include <cassert>
#include <cerrno>

#include "base/trace.h"
#include "base/untrusted.h"
#include "sockets/arenas/pairs.h"
#include "sockets/bell/look.h"
#include "sockets/connection/areas.h"
#include "sockets/connection/carriage.h"
#include "sockets/connection/peer_place.h"
#include "sockets/options/option_setup.h"
#include "sockets/process/config.h"
#include "sockets/process/identity.h"
#include "sockets/setup/driver_request.h"
#include "sockets/setup/establish.h"
#include "sockets/setup/local_address.h"
#include "sockets/setup/port.h"
#include "sys/kernel.h"
#include "wire/message.h"
#include "wire/rendezvous_name.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace shunt::sockets {
namespace {

struct Request {
  wire::Message message;
  int fds[2] = {-1,
                -1};  // arena, area or device; reserving socket, or the bell when via the driver
  int count = 0;
  bool via_driver = false;
  bool trusted = false;  // from somebody who could do with this process what he likes

  void close_all() {
    for (int& fd : fds) {
      if (fd >= 0) sys::close_received(fd);
      fd = -1;
    }
  }
};

// Root, or this user himself, who may have any port but the privileged ones.
bool is_trusted(int bell, const wire::Endpoint& source) {
  ucred cred{};
  socklen_t length = sizeof cred;
  if (sys::getsockopt(bell, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return false;
  if (cred.uid == 0) return true;
  return cred.uid != kNobody && source.port >= kFirstUnprivileged && cred.uid == own_user();
}

// The descriptors of a CONNECT, which stays on the bell. -EMFILE: there is no room for them.
long peek_descriptors(int bell, Request* r) {
  wire::MessageBytes bytes;
  const int wanted = r->trusted ? 1 : 2;
  for (;;) {
    bool truncated = false;
    sys::recv_fds(bell, bytes.data(), bytes.size(), r->fds, 2, &r->count, MSG_DONTWAIT | MSG_PEEK,
                  &truncated);
    if (r->count >= wanted) return 0;
    if (!truncated) return -EPROTO;
    r->close_all();
    if (!spare_descriptor()) return -EMFILE;
  }
}

// Looks at the CONNECT, which stays on the bell. Of somebody trusted whose arena is known no descriptor is wanted.
// -EAGAIN: nothing yet. -EPROTO: not a CONNECT, or the other side is gone. -EMFILE.
long look_at_request(int bell, Request* r) {
  wire::MessageBytes bytes;
  const long n = sys::recv(bell, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_PEEK);
  if (n == -EAGAIN || n == -EINTR) return -EAGAIN;
  const Result<wire::Message> m =
      n < 0 ? Error{EBADMSG} : wire::decode(bytes.data(), static_cast<std::size_t>(n));
  if (!m.ok() || m.value().type != wire::MessageType::kConnect) {
    peek_descriptors(bell, r);  // to be closed with care
    return -EPROTO;
  }
  r->message = m.value();
  r->via_driver = (m.value().flags & wire::kViaDriver) != 0;
  r->trusted = !r->via_driver && is_trusted(bell, m.value().source);
  if (r->trusted && knows_arena(m.value().arena)) return 0;
  return peek_descriptors(bell, r);
}

// Off the bell with it, and with the descriptors that came along and are not wanted.
void take_request(int bell) {
  wire::MessageBytes bytes;
  sys::recv(bell, bytes.data(), bytes.size(), MSG_DONTWAIT);
}

// The source address that somebody trusted names.
bool sound_source(const wire::Endpoint& source, const wire::Endpoint& destination) {
  if (source.port == 0 || source.is_any() || source.family != destination.family) return false;
  return source.same_address(destination) || is_local(source);
}

std::uint64_t netns_cookie(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return sys::getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

// The source address as this namespace's kernel vouches for it. `destination` is a local address.
bool vouched_source(int reservation, int listener_fd, const wire::Endpoint& destination,
                    wire::Endpoint* source) {
  int protocol = 0;
  socklen_t length = sizeof protocol;
  if (sys::getsockopt(reservation, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) != 0 ||
      (protocol != IPPROTO_TCP && protocol != 262 /* MPTCP */)) {
    return false;
  }
  if (netns_cookie(reservation) != netns_cookie(listener_fd)) return false;
  sockaddr_storage address{};
  length = sizeof address;
  // It holds a port and nothing else: one that is connected is somebody's connection.
  if (sys::getpeername(reservation, &address, &length) == 0) return false;
  length = sizeof address;
  if (sys::getsockname(reservation, &address, &length) != 0) return false;
  const auto bound = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
  if (!bound.ok() || bound.value().port == 0) return false;
  *source = bound.value();
  if (!source->is_any()) {
    // Anybody can bind a foreign address (IP_FREEBIND), and the kernel would not let him connect from it.
    return source->family == destination.family &&
           (source->same_address(destination) || is_local(*source));
  }
  source->family = destination.family;
  source->address = destination.address;
  if (destination.family == AF_INET && destination.is_loopback()) source->address = {127, 0, 0, 1};
  return true;
}

bool check(Request* r, int bell, const Socket* listener) {
  const Listener* l = listener->listener;
  const wire::Message& m = r->message;
  if (!wire::rendezvous_matches(l->local, l->dual_stack, m.destination)) return false;
  if (m.area.object == wire::kObjectWindow) {
    return r->via_driver && m.own.object == wire::kObjectWindow && areas_from_driver() &&
           from_driver(bell);
  }
  if (r->via_driver) return m.area.object == wire::kObjectDescriptor && from_driver(bell);
  if (m.area.object != wire::kObjectPlace) return false;
  // A listener at one address is asked for that one; at the wildcard, for whatever its client says.
  if (l->local.is_any() && !is_local(m.destination)) return false;
  // Of two descriptors the second one proves the source; it has to where nobody is trusted.
  if (r->count < 2) return r->trusted && sound_source(m.source, m.destination);
  wire::Endpoint source;
  if (!vouched_source(r->fds[1], l->rendezvous, m.destination, &source)) return false;
  r->message.source = source;
  return true;
}

bool answer_driver(int rendezvous, wire::MessageType type) {
  wire::Message m;
  m.type = type;
  if (type == wire::MessageType::kRefused) {
    m.reason = static_cast<std::uint32_t>(wire::Reason::kRefused);
  }
  const wire::MessageBytes bytes = wire::encode(m);
  return sys::send(rendezvous, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

bool untouched(const layout::Area* peer) {
  return Untrusted(peer->hot.head).copy() == 0 && Untrusted(peer->hot.flags).copy() == 0;
}

// CONNECTED, with the own area unless the driver gave it and knows.
bool tell_connected(const Request& r, const Parts& parts, int to) {
  wire::Message m;
  m.type = wire::MessageType::kConnected;
  m.generation = parts.generation;
  const Connection* c = parts.connection;
  m.area = c->relayed ? r.message.own : own_location();
  if (c->own_place.arena != nullptr) {
    m.area = place_location(c->own_place);
    m.arena = c->own_place.arena->id;
  }
  const wire::MessageBytes bytes = wire::encode(m);
  return sys::send_fds(to, bytes.data(), bytes.size(), &parts.area_fd, parts.area_fd >= 0 ? 1 : 0,
                       MSG_DONTWAIT) == static_cast<long>(bytes.size());
}

// The own area says it all to somebody who has it mapped.
bool answer_silently(Connection* c, std::uint32_t generation) {
  // Release: who sees it sees the area as it was made.
  __atomic_store_n(&c->own->header.answers, generation, __ATOMIC_RELEASE);
  return true;
}

// The areas of a connection from here: places in a pair of arenas. 0, -EPROTO or -ENOMEM.
long make_places(int bell, Request& r, Parts* parts, ring::PeerArea* peer, Answer* answer) {
  const wire::Location& area = r.message.area;
  if (area.length > layout::kPlacesMax || area.offset >= area.length) return -EPROTO;
  const Asked asked{&r.fds[0], r.message.arena, static_cast<std::uint32_t>(area.length),
                    static_cast<std::uint32_t>(area.offset)};
  Answering result = answer_place(asked, answer);
  if (result == Answering::kUnknown) {
    const long peeked = peek_descriptors(bell, &r);
    if (peeked != 0) return peeked;
    result = answer_place(asked, answer);
  }
  if (result != Answering::kYes) return result == Answering::kNoMemory ? -ENOMEM : -EPROTO;
  own_place(parts, answer->own, answer->generation);
  parts->connection->peer_place = answer->peer;
  parts->connection->peer_place_held = true;
  const Arena* theirs = answer->peer.arena;
  *peer = checked_place(theirs->header, theirs->shape, asked.index, r.message.generation);
  return 0;
}

// Both areas, mapped. `peer` may lack its control then: it is not what it should be. 0, -EPROTO or -ENOMEM.
long make_areas(int bell, Request& r, Parts* parts, ring::PeerArea* peer, Answer* answer) {
  Connection* c = parts->connection;
  if (r.message.area.object == wire::kObjectPlace) return make_places(bell, r, parts, peer, answer);
  const bool given = r.message.area.object == wire::kObjectWindow;
  if (given ? !adopt_range(parts, r.fds[0], r.message.own, r.message.own_generation)
            : !own_object(parts)) {
    return -ENOMEM;
  }
  *peer = map_peer(r.fds[0], r.message.area, r.message.generation, c->map_bytes);
  return 0;
}

// Maps both areas, tells the other side, and gives the bell its descriptor.
long complete(Request* r, int* bell_slot, int listener_fd, Socket* listener, int flags,
              bool relocate) {
  int bell = *bell_slot;
  Parts parts;
  if (!make_parts(&parts)) return -ENOMEM;
  Connection* c = parts.connection;
  ring::PeerArea peer = nullptr;
  Answer answer;
  const long made = make_areas(bell, *r, &parts, &peer, &answer);
  if (made == 0 && !r->via_driver) take_request(bell);
  c->reader.generation = r->message.generation;
  if (made != 0) {
    discard(&parts);
    return made;
  }
  if (peer.control != nullptr) connected(c, peer);
  c->local = r->message.destination;
  c->remote = r->message.source;
  c->nonblocking.store((flags & SOCK_NONBLOCK) != 0, std::memory_order_relaxed);

  if (answer.own.arena != nullptr) parts.area_fd = answer.fd;
  const bool silent = answer.own.arena != nullptr && answer.known;
  const bool told = peer.control != nullptr &&
                    (silent ? answer_silently(c, r->message.generation)
                            : tell_connected(*r, parts, r->via_driver ? r->fds[1] : bell));
  if (answer.own.arena != nullptr) {
    answer_sent(answer, told);
    parts.area_fd = -1;  // the arena's
  }
  // A client that has gone meanwhile is accepted all the same, as by TCP: what it wrote is read. But
  // one that gave up while its request was with the drivers was never connected.
  if (peer.control == nullptr || (!told && r->via_driver && untouched(peer.control))) {
    discard(&parts);
    return -EPROTO;
  }
  if (!told) {
    c->gone_noticed.store(true, std::memory_order_release);
    c->trouble.store(true, std::memory_order_release);
  }
  if (r->via_driver) {
    answer_driver(bell, wire::MessageType::kConnected);
    // The bell takes the number that accept() gave out, the lowest free one.
    sys::dup3(r->fds[1], bell, O_CLOEXEC);
  }
  if (relocate) {
    // The file lives on, perhaps under a new number, so closing the old one would not end the watch.
    sys::epoll_ctl(listener->listener->waiter, EPOLL_CTL_DEL, bell, nullptr);
    const int low = sys::fcntl(bell, F_DUPFD_CLOEXEC, 0);
    if (low >= 0) {
      sys::close(bell);
      *bell_slot = bell = low;
    }
  }
  if (relocate || r->via_driver) {  // else accept4() has
    sys::fcntl(bell, F_SETFL, (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0);
    sys::fcntl(bell, F_SETFD, (flags & SOCK_CLOEXEC) != 0 ? FD_CLOEXEC : 0);
  }
  if (!r->trusted) refuse_descriptors(bell);
  inherit_options(c, listener_fd, listener->family);
  Socket* s = enter(bell, Kind::kTcp, listener->family);
  if (s == nullptr) {
    discard(&parts);
    return -EMFILE;
  }
  if (parts.area_fd >= 0) sys::close(parts.area_fd);
  const char* partition = r->via_driver ? partition_name_of(c->remote) : nullptr;
  install(bell, s, c, partition);
  SHUNT_TRACE(accepted, bell, c, partition);
  return bell;
}

}  // namespace

long finish_handshake(int bell, int listener_fd, Socket* listener, int flags, bool relocate) {
  assert(listener->lock.held_by_me());
  Request r;
  long result = look_at_request(bell, &r);
  if (result == -EAGAIN) return -EAGAIN;
  if (r.via_driver) take_request(bell);
  if (result == 0 && !check(&r, bell, listener)) result = -EPROTO;
  if (result == 0) {
    result = complete(&r, &bell, listener_fd, listener, flags, relocate);
  }
  // Nothing has changed: it waits, as it would in a backlog.
  const bool waits = !r.via_driver && (result == -EMFILE || result == -ENOMEM);
  if (result < 0 && !waits) {
    if (r.via_driver) answer_driver(bell, wire::MessageType::kRefused);
    sys::close(bell);
  }
  r.close_all();
  return result;
}

}  // namespace shunt::sockets
