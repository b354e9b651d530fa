#include "driver/carriers/bell_relay.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "driver/strangers/pass_fds.h"

namespace shunt::driver {
namespace {

constexpr int kMessagesAtOnce = 64;  // of notices into one lane, before the others have their turn

// Ids have 58 bits (wire::kNoticeId), numbers of partitions 6.
std::uint64_t packed(const BellRelay::LinkId& name) {
  return (std::uint64_t{name.peer - 1} << 58) | (name.id & wire::kNoticeId);
}

int side_index(BellRelay::Side side) { return side == BellRelay::Side::kConnecting ? 0 : 1; }

bool closed_by_all(int bell) {
  pollfd p{bell, 0, 0};
  return ::poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

}  // namespace

BellRelay::BellRelay(Core& core, window::Arena& arena, window::Arena::Mapped mapped,
                     std::function<void(const LinkId&)> withdrawn)
    : core_(core),
      arena_(arena),
      mapped_(std::move(mapped)),
      withdrawn_(std::move(withdrawn)),
      pending_(core.peers().size()) {}

BellRelay::~BellRelay() {
  for (auto& [key, link] : links_) {
    core_.poller.remove(link.watch);
    link.bell.hang_up();
  }
}

BellRelay::Key BellRelay::key_of(const LinkId& name) const {
  const auto& names = names_[side_index(name.side)];
  const auto found = names.find(packed(name));
  return found != names.end() ? found->second : 0;
}

BellRelay::Link* BellRelay::find(const LinkId& name) {
  const auto found = links_.find(key_of(name));
  return found != links_.end() ? &found->second : nullptr;
}

void BellRelay::open(const LinkId& name, StrangerFd bell, const window::AreaGrant& own,
                     std::uint64_t peer_window_offset) {
  assert(bell.valid() && !knows(name) && core_.peer(name.peer) != nullptr);
  assert(name.id != 0 && name.id <= wire::kNoticeId);  // else packed() is another link's too
  const Key key = next_key_++;
  Link& link = links_[key];
  link.key = key;
  link.name = name;
  link.bell = std::move(bell);
  refuse_descriptors(link.bell.get());
  link.own = own;
  link.peer_offset = peer_window_offset;
  names_[side_index(name.side)][packed(name)] = key;
  // EPOLLHUP comes unasked.
  link.watch = core_.poller.add(link.bell.get(), EPOLLIN,
                                [this, key](std::uint32_t events) { on_bell(key, events); });
  count(counters().links);
}

bool BellRelay::rings(const LinkId& name) const {
  const auto found = links_.find(key_of(name));
  return found != links_.end() && !found->second.state.hung_up();
}

bool BellRelay::awaits_connected(const LinkId& name) const {
  const auto found = links_.find(key_of(name));
  if (found == links_.end()) return false;
  const LinkState& state = found->second.state;
  return state.here() < Here::kCarrying && state.there() == There::kOpen;
}

void BellRelay::connected(const LinkId& name, std::uint64_t peer_window_offset,
                          const wire::Message& for_program, int area) {
  Link* link = find(name);
  if (link == nullptr) return;
  assert(name.side == Side::kConnecting && awaits_connected(name));
  link->peer_offset = peer_window_offset;
  const int error = send_with_fds(link->bell.get(), wire::encode(for_program), std::span(&area, 1));
  if (error == EPIPE || error == ECONNRESET) return;  // it hangs up: on_bell() hears of it
  if (error != 0) {
    abort_link(*link);
    return;
  }
  const bool rung_early = link->state.here() == Here::kRungEarly;
  link->state.advance(Here::kCarrying);
  tell(*link, wire::kNoticeRing);
  if (rung_early) ring_program(*link);
}

void BellRelay::on_bell(Key key, std::uint32_t events) {
  const auto found = links_.find(key);
  if (found == links_.end()) return;
  Link& link = found->second;
  assert(!link.state.hung_up() && link.bell.valid());
  const bool told = events == EPOLLIN && tell_at_once(link);
  assert(links_.contains(key));
  std::array<std::uint8_t, kBytesAtOnce> bytes;
  const Received received = receive_with_fds(link.bell.get(), bytes);
  if (received.error == EAGAIN && (events & EPOLLHUP) == 0) return;
  const bool descriptors = received.cut || !received.fds.empty();
  if (received.size > 0 && !descriptors) {
    // A hang-up is seen again behind the last of the bytes.
    on_bytes(link, std::span(bytes).first(received.size), told);
  } else if (!descriptors && ((events & EPOLLHUP) != 0 || closed_by_all(link.bell.get()))) {
    close_here(link);
    look_whether_mapped(link);
  } else {
    spoil(link);  // no bell carries descriptors, or is half shut
  }
  forget_if_over(key);
}

// With a byte on the bell of `link`, which carries and so outlives flush_to().
bool BellRelay::tell_at_once(Link& link) {
  Peer& peer = *core_.peer(link.name.peer);
  if (told_at_once_ || link.state.here() != Here::kCarrying || link.state.gone() ||
      !pending_[link.name.peer - 1].empty() || !core_.lane_has_room(peer)) {
    return false;
  }
  told_at_once_ = true;
  tell(link, wire::kNoticeRing);
  flush_to(peer);
  return true;
}

void BellRelay::on_bytes(Link& link, std::span<const std::uint8_t> bytes, bool told) {
  if (unaccepted(link)) {
    const std::size_t part = std::min(bytes.size(), link.first.size() - link.first_bytes);
    std::memcpy(link.first.data() + link.first_bytes, bytes.data(), part);
    link.first_bytes += part;
    bytes = bytes.subspan(part);
    if (link.first_bytes == link.first.size()) on_first(link);
    if (link.state.hung_up()) return;
  }
  if (bytes.empty()) return;
  if (std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t b) { return b != wire::kRing; })) {
    spoil(link);
    return;
  }
  count(counters().rings_relayed, bytes.size());
  // One byte: it is the one that made the bell readable, and came before what was told.
  if (!told || bytes.size() > 1) tell(link, wire::kNoticeRing);
}

// What our program says of its area is not needed: it is the one that it was given.
void BellRelay::on_first(Link& link) {
  const auto message = wire::decode(link.first.data(), link.first.size());
  if (!message.ok() || message.value().type != wire::MessageType::kConnected) {
    spoil(link);
    return;
  }
  Peer& peer = *core_.peer(link.name.peer);
  wire::Message connected;
  connected.type = wire::MessageType::kConnected;
  connected.id = link.name.id;
  connected.partition = core_.self.number;
  connected.generation = link.own.generation;
  connected.area = {wire::kObjectSection, link.own.section_offset,
                    core_.backing.geometry.area_stride};
  link.state.advance(Here::kCarrying);
  if (!link.state.gone() && !core_.post(peer, connected)) abort_link(link);
}

void BellRelay::ring_program(Link& link) {
  if (link.state.hung_up()) return;
  if (link.name.side == Side::kConnecting && link.state.here() != Here::kCarrying) {
    if (link.state.here() == Here::kUnanswered) link.state.advance(Here::kRungEarly);
    return;
  }
  assert(link.state.here() != Here::kRungEarly);
  // A full bell rings already, and one that hangs up is noticed by its watch.
  const std::uint8_t ring = wire::kRing;
  if (::send(link.bell.get(), &ring, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    count(counters().rings_delivered);
  }
}

void BellRelay::on_notices(Peer& from, const wire::Message& message) {
  for (std::uint32_t i = 0; i < message.notice_count; ++i) on_notice(from, message.notices[i]);
}

void BellRelay::on_notice(Peer& from, std::uint64_t notice) {
  const Side side = (notice & wire::kNoticeYours) != 0 ? Side::kConnecting : Side::kListening;
  Link* link = find({from.number(), notice & wire::kNoticeId, side});
  const bool closes = (notice & wire::kNoticeClosed) != 0;
  const bool lets_go = (notice & wire::kNoticeLetGo) != 0;
  const bool rings = (notice & wire::kNoticeRing) != 0;
  if (link == nullptr || !link->state.may_hear(rings, closes, lets_go)) {
    count(core_.counters().messages_bad);
    return;
  }
  if (rings) ring_program(*link);
  if (closes) {
    const bool reset = (notice & wire::kNoticeReset) != 0;
    if (reset && unaccepted(*link)) recall(*link);
    // Whom nobody ever answered was not connected.
    const bool answered = side == Side::kListening || link->state.here() == Here::kCarrying;
    end_there(*link, reset || !answered ? layout::kFateReset : layout::kFatePeerClosed);
  }
  if (lets_go) advance_there(*link, There::kLetGo);
  forget_if_over(link->key);
}

void BellRelay::tell(Link& link, std::uint64_t bits) {
  assert(bits != 0);
  if (link.state.gone()) return;
  if (link.tell == 0) pending_[link.name.peer - 1].push_back(link.key);
  link.tell |= bits;
}

bool BellRelay::flush() {
  told_at_once_ = false;
  bool more = false;
  for (const auto& peer : core_.peers()) {
    if (peer && !pending_[peer->number() - 1].empty()) more = flush_to(*peer) || more;
  }
  return more;
}

bool BellRelay::flush_to(Peer& peer) {
  std::deque<Key>& pending = pending_[peer.number() - 1];
  for (int i = 0; i < kMessagesAtOnce && !pending.empty() && core_.lane_has_room(peer); ++i) {
    wire::Message message;
    message.type = wire::MessageType::kNotice;
    message.partition = core_.self.number;
    while (!pending.empty() && message.notice_count < wire::kNoticesMax) {
      const Key key = pending.front();
      pending.pop_front();
      const auto found = links_.find(key);
      if (found == links_.end()) continue;
      Link& link = found->second;
      const std::uint64_t yours = link.name.side == Side::kListening ? wire::kNoticeYours : 0;
      const std::uint64_t bits = std::exchange(link.tell, 0);
      if (bits != 0) message.notices[message.notice_count++] = bits | yours | link.name.id;
      forget_if_over(key);
    }
    if (message.notice_count == 0) return false;
    assert(peer.backlog.empty());
    count(counters().notices_sent, message.notice_count);
    core_.post(peer, message);
  }
  return !pending.empty() && core_.lane_has_room(peer);
}

void BellRelay::forget_name(const LinkId& name) {
  names_[side_index(name.side)].erase(packed(name));
}

}  // namespace shunt::driver
