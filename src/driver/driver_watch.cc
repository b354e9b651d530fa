// The driver of a window on a device: is the place still ours, and who else is there?
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cassert>
#include <utility>

#include "driver/driver.h"
#include "window/error.h"

namespace shunt::driver {
namespace {

constexpr std::uint32_t kTicksToRing = 20;

}  // namespace

// The others look at our heart when they tick; a ring has them look now.
void Driver::announce() {
  core_.beat();
  for (const auto& peer : core_.peers()) {
    if (!peer) continue;
    peer->doorbell->tick();
    if (peer->doorbell->present()) peer->doorbell->ring();
  }
}

void Driver::look_at_head() {
  const window::HeadState head = core_.backing.look_at_head();
  if (head == window::HeadState::kGone) {
    leave(fmt::format("window {} was destroyed or made again", core_.options.window));
  }
  if (head == window::HeadState::kDamaged && !std::exchange(head_damaged_, true)) {
    spdlog::error(
        "the head of window {} is damaged: its drivers go on, but nobody can open it any more "
        "until it is made "
        "again (stop them, then `shunt window create --force`)",
        core_.options.window);
  }
}

void Driver::leave(const std::string& why) {
  core_.leave();
  throw window::WindowError(why);
}

// Whoever was paused for long wakes up in somebody else's window, or place, perhaps. Before anything is written:
// in another window every word has another meaning.
void Driver::after_sleep() {
  look_at_head();
  const Clock::time_point now = Clock::now();
  if (now - place_seen_ > 2 * core_.options.tick) watch_place(now);
}

void Driver::watch_place(Clock::time_point now) {
  place_seen_ = now;
  if (!core_.still_ours()) {
    leave(fmt::format("partition '{}' of window {} has another driver by now",
                      core_.options.partition, core_.options.window));
  }
}

void Driver::watch_window(Clock::time_point now) {
  // Not twice for one tick: the other driver must have had the time to look.
  if (now - place_seen_ > core_.options.tick / 2) watch_place(now);
  if (core_.disputed())
    return;  // who follows a session acknowledges it, in what may be another's section
  for (const auto& peer : core_.peers()) {
    if (peer) look_at(*peer, now);  // before our beat: Liveness
  }
}

void Driver::look_at_doorbells() {
  std::uint32_t doorbells = 0;
  for (const auto& peer : core_.peers()) {
    if (!peer) continue;
    if (core_.on_device()) peer->doorbell->tick();
    const bool present = peer->doorbell->present();
    core_.peer_counters(*peer).doorbell_present.store(present, std::memory_order_relaxed);
    if (present) ++doorbells;
  }
  if (core_.on_device()) {
    core_.section().header.life.doorbells.store(doorbells, std::memory_order_relaxed);
  }
  if (everybody_can_ring()) {
    ticks_unrung_ = 0;
  } else if (core_.interrupt_mode() && ++ticks_unrung_ == kTicksToRing) {
    spdlog::warn(
        "not every partition can ring this one: instead of sleeping, it looks at them again "
        "and again (shuntd --doorbell; which it is shows: shunt status --window {})",
        core_.options.window);
  }
}

// A new session is acknowledged after everything of the former one is over here, and nothing of it is read
// before. Should there be another one by now, the next look acts on that: a peer that changes it again and
// again keeps nobody here.
void Driver::look_at(Peer& peer, Clock::time_point now) {
  assert(core_.on_device() && !core_.disputed());
  const Liveness::Change change = peer.look(now);
  const bool logged = change != Liveness::Change::kNone && peer.worth_a_line(now);
  switch (change) {
    case Liveness::Change::kNone:
      break;
    case Liveness::Change::kCame:
      if (logged) spdlog::info("partition '{}' is there", peer.name());
      peer.doorbell->ring();  // it may wait to hear its doorbell
      break;
    case Liveness::Change::kDied:
      // Its last words are in the lane before it says that it goes: connections that ended before are no resets.
      if (!peer.liveness()->says_up()) read_lane(peer, peer.lane_entries());
      if (logged) spdlog::warn("partition '{}' is gone", peer.name());
      count(core_.section().header.arena.peers_declared_dead);
      core_.new_session(peer);
      ranges_->on_peer_gone(peer);
      peer.read_anew();
      break;
    case Liveness::Change::kRestarted:
      if (logged) {
        spdlog::warn("partition '{}' has forgotten its connections: it started again, or missed us",
                     peer.name());
      }
      peer.backlog.clear();
      ranges_->on_peer_gone(peer);
      peer.doorbell->ring();
      break;
  }
  peer.reader().follow(peer.liveness()->session());
}

bool Driver::everybody_can_ring() const {
  for (const auto& peer : core_.peers()) {
    if (peer && core_.on_device() && peer->speaks() && !peer->doorbell->present()) return false;
  }
  return true;
}

// Of this life of both drivers: a lane that shows another session, because somebody wrote over it, still holds
// what was posted, and perhaps read, under the true one.
bool Driver::is_for_us(Peer& from, const wire::Message& message) {
  return !core_.on_device() || (message.session == core_.session(from) &&
                                message.from_session == from.reader().producer_session());
}

}  // namespace shunt::driver
