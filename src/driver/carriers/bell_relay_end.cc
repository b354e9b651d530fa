// How links end. The states, and who is told what, are described in bell_relay.h.
#include <sys/socket.h>

#include <utility>

#include "driver/carriers/bell_relay.h"

namespace shunt::driver {

void BellRelay::close_here(Link& link, std::uint64_t bits) {
  if (link.closed_here) return;
  link.closed_here = true;
  core_.poller.remove(std::exchange(link.watch, 0));
  link.bell.hang_up();
  arena_.end(link.own.index);
  if (!std::exchange(link.told_closed, true)) tell(link, wire::kNoticeClosed | bits);
}

void BellRelay::look_whether_mapped(Link& link) {
  if (link.peer_offset != 0 && mapped_(link.peer_offset)) {
    sweeping_.push_back(link.key);
    return;
  }
  link.let_go_here = true;
  tell(link, wire::kNoticeLetGo);
}

// Before anything is done to the bell: who sees its end sees why.
void BellRelay::tell_fate(Link& link, std::uint32_t fate) {
  link.fate = fate;
  arena_.area(link.own.index)->fate_line.fate.store(fate, std::memory_order_release);
}

void BellRelay::end_there(Link& link, std::uint32_t fate) {
  link.closed_there = true;
  if (link.closed_here) return;
  tell_fate(link, fate);
  ::shutdown(link.bell.get(), SHUT_WR);
}

void BellRelay::let_go_there(Link& link) {
  if (!std::exchange(link.let_go_there, true)) arena_.peer_let_go(link.own.index);
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
  if (!ask) {
    link->closed_there = true;
    let_go_there(*link);
    link->mute = true;
  }
  close_here(*link, wire::kNoticeReset);
  if (!std::exchange(link->let_go_here, true)) tell(*link, wire::kNoticeLetGo);
  forget_if_over(link->key);
}

void BellRelay::refused(const LinkId& name) {
  Link* link = find(name);
  if (link == nullptr || link->carrying) return;
  link->mute = true;
  if (!link->closed_there) end_there(*link, layout::kFateReset);
  let_go_there(*link);
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
  if (link.closed_here) return;
  reset_here(link);
  look_whether_mapped(link);
}

// The program may map its area for as long as it likes: the arena waits for that (window/arena.h).
void BellRelay::reset_here(Link& link) {
  if (link.closed_here) return;
  count(counters().links_reset);
  tell_fate(link, layout::kFateReset);
  close_here(link, wire::kNoticeReset);
}

void BellRelay::reset_all(const Peer& peer) {
  std::vector<Key> keys;
  for (const auto& [key, link] : links_) {
    if (link.name.peer == peer.number() && !link.mute) keys.push_back(key);
  }
  for (const Key key : keys) {
    Link& link = links_.at(key);
    link.mute = true;
    link.tell = 0;
    forget_name(link.name);
    if (link.fate != layout::kFatePeerClosed) {
      if (unaccepted(link)) withdrawn_(link.name);
      reset_here(link);
    }
    link.closed_there = true;
    let_go_there(link);
    link.let_go_here = true;  // there is nobody to tell
    forget_if_over(key);
  }
  for (const Key key : std::exchange(pending_[peer.number() - 1], {})) {
    const auto found = links_.find(key);
    if (found != links_.end()) found->second.queued = false;
  }
}

void BellRelay::sweep() {
  for (const Key key : std::exchange(sweeping_, {})) {
    const auto found = links_.find(key);
    if (found == links_.end() || found->second.let_go_here) continue;
    look_whether_mapped(found->second);
    forget_if_over(key);
  }
}

void BellRelay::forget_if_over(Key key) {
  const auto found = links_.find(key);
  if (found == links_.end()) return;
  const Link& link = found->second;
  if (!link.closed_here || !link.closed_there || !link.let_go_there) return;
  if (!link.mute && (!link.let_go_here || link.tell != 0)) return;
  // A name that a peer's new session uses again is another link's by now.
  if (key_of(link.name) == key) forget_name(link.name);
  links_.erase(found);
}

}  // namespace shunt::driver
