// How links end. The states, and who is told what, are described in bell_relay.h.
#include <sys/socket.h>

#include <cassert>
#include <utility>

#include "driver/carriers/bell_relay.h"

namespace shunt::driver {

void BellRelay::close_here(Link& link, std::uint64_t bits) {
  if (link.state.hung_up()) return;
  link.state.advance(Here::kHungUp);
  core_.poller.remove(std::exchange(link.watch, 0));
  link.bell.hang_up();
  arena_.end(link.own.index);
  tell(link, wire::kNoticeClosed | bits);
}

void BellRelay::look_whether_mapped(Link& link) {
  if (link.peer_offset != 0 && mapped_(link.peer_offset)) {
    sweeping_.push_back(link.key);
    return;
  }
  link.state.advance(Here::kLetGo);
  tell(link, wire::kNoticeLetGo);
}

// Before anything is done to the bell: who sees its end sees why.
void BellRelay::tell_fate(Link& link, std::uint32_t fate) {
  assert(!link.state.hung_up());  // else its area may be another link's by now
  link.fate = fate;
  arena_.area(link.own.index)->fate_line.fate.store(fate, std::memory_order_release);
}

void BellRelay::advance_there(Link& link, There to) {
  const bool lets_go = link.state.there() < There::kLetGo && to >= There::kLetGo;
  link.state.advance(to);
  if (lets_go) arena_.peer_let_go(link.own.index);
}

void BellRelay::end_there(Link& link, std::uint32_t fate) {
  advance_there(link, There::kClosed);
  if (link.state.hung_up()) return;
  tell_fate(link, fate);
  assert(link.fate != layout::kFateOpen);
  ::shutdown(link.bell.get(), SHUT_WR);
}

// The listener is not to accept it any more: its rendezvous is closed, and its bell.
void BellRelay::recall(Link& link) {
  withdrawn_(link.name);
  close_here(link);
  look_whether_mapped(link);
}

void BellRelay::withdraw(const LinkId& name, bool ask) {
  Link* link = find(name);
  if (link == nullptr) return;
  if (!ask && !link->state.gone()) advance_there(*link, There::kGone);
  close_here(*link, wire::kNoticeReset);
  if (link->state.here() != Here::kLetGo) {
    link->state.advance(Here::kLetGo);
    tell(*link, wire::kNoticeLetGo);
  }
  forget_if_over(link->key);
}

void BellRelay::refused(const LinkId& name) {
  Link* link = find(name);
  if (link == nullptr || link->peer_offset != 0) return;  // who has told its area refuses nothing
  if (link->state.there() == There::kOpen) end_there(*link, layout::kFateReset);
  if (!link->state.gone()) advance_there(*link, There::kGone);
  forget_if_over(link->key);
}

void BellRelay::abort(const LinkId& name) {
  Link* link = find(name);
  if (link == nullptr) return;
  abort_link(*link);
  forget_if_over(link->key);
}

void BellRelay::spoil(Link& link) {
  count(counters().bells_bad);
  abort_link(link);
}

void BellRelay::abort_link(Link& link) {
  if (link.state.hung_up()) return;
  reset_here(link);
  look_whether_mapped(link);
}

// The program may map its area for as long as it likes: the arena waits for that (window/arena.h).
void BellRelay::reset_here(Link& link) {
  if (link.state.hung_up()) return;
  count(counters().links_reset);
  tell_fate(link, layout::kFateReset);
  close_here(link, wire::kNoticeReset);
}

void BellRelay::reset_all(const Peer& peer) {
  std::vector<Key> keys;
  for (const auto& [key, link] : links_) {
    if (link.name.peer == peer.number() && !link.state.gone()) keys.push_back(key);
  }
  for (const Key key : keys) {
    Link& link = links_.at(key);
    advance_there(link, There::kGone);
    forget_name(link.name);
    if (link.fate != layout::kFatePeerClosed) {
      if (unaccepted(link)) withdrawn_(link.name);
      reset_here(link);
    }
    forget_if_over(key);
  }
  for (const Key key : std::exchange(pending_[peer.number() - 1], {})) {
    const auto found = links_.find(key);
    if (found != links_.end()) found->second.tell = 0;
  }
}

void BellRelay::sweep() {
  for (const Key key : std::exchange(sweeping_, {})) {
    const auto found = links_.find(key);
    if (found == links_.end() || found->second.state.here() == Here::kLetGo) continue;
    look_whether_mapped(found->second);
    forget_if_over(key);
  }
}

void BellRelay::forget_if_over(Key key) {
  const auto found = links_.find(key);
  if (found == links_.end()) return;
  const Link& link = found->second;
  if (!link.state.over() || (link.tell != 0 && !link.state.gone())) return;
  assert(!link.bell.valid() && link.watch == 0);
  // A name that a peer's new session uses again is another link's by now.
  if (key_of(link.name) == key) forget_name(link.name);
  links_.erase(found);
}

}  // namespace shunt::driver
