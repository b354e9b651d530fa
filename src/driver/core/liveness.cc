#include "driver/core/liveness.h"

#include <cassert>
#include <utility>

#include "base/untrusted.h"

namespace shunt::driver {

Liveness::Liveness(const layout::Section* section, std::uint32_t own_number,
                   std::chrono::milliseconds dead_after, std::chrono::milliseconds tick)
    : section_(section), own_number_(own_number), dead_after_(dead_after), tick_(tick) {
  assert(section != nullptr && own_number >= 1);
}

bool Liveness::says_up() const {
  return Untrusted(section_->header.life.state).copy_acquire() ==
         static_cast<std::uint32_t>(layout::DriverState::kUp);
}

// 0 means that the peer empties its lane right now: what comes next is looked at when it is there.
Liveness::Session Liveness::see_session() {
  const std::uint64_t session =
      Untrusted(section_->lanes[own_number_ - 1].generation).copy_acquire();
  if (session == 0 || session == session_) return Session::kSame;
  return std::exchange(session_, session) < session ? Session::kLater : Session::kEarlier;
}

Liveness::Change Liveness::look(Clock::time_point now) {
  assert(now >= last_look_);
  assert(life_ != PeerLife::kAlive || session_ != 0);
  // The beat before the session: a driver that has learnt of a death announces it before it beats.
  const std::uint64_t heartbeat = Untrusted(section_->header.life.heartbeat).copy_acquire();
  const bool first = first_look_ == Clock::time_point{};
  if (first) {
    first_look_ = now;
    heartbeat_ = heartbeat;
  }
  const bool away = !first && now - last_look_ > dead_after_ / 2;
  last_look_ = now;
  const bool beat = heartbeat != heartbeat_;
  if (first || beat || away) beat_seen_ = now;
  heartbeat_ = heartbeat;
  beaten_ = beaten_ || beat;
  const Session session = see_session();
  const bool up = says_up();
  if (life_ != PeerLife::kAlive) {
    broken_ = false;  // a fresh start, whatever it was
    if (!beat || !up || session_ == 0 || now - died_ < tick_) return Change::kNone;
    life_ = PeerLife::kAlive;
    return Change::kCame;
  }
  if (broken_ || session == Session::kEarlier || !up || now - beat_seen_ > dead_after_) {
    broken_ = false;
    life_ = PeerLife::kDead;
    died_ = now;
    return Change::kDied;
  }
  return session == Session::kLater ? Change::kRestarted : Change::kNone;
}

bool Liveness::acknowledged(std::uint64_t own_session, Clock::time_point now,
                            std::chrono::milliseconds long_enough) const {
  if (first_look_ == Clock::time_point{}) return false;
  if (!says_up() || (!beaten_ && now - first_look_ >= long_enough)) return true;
  return Untrusted(section_->acks[own_number_ - 1].generation).copy_acquire() == own_session;
}

}  // namespace shunt::driver
