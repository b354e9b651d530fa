#include "driver/peer.h"

#include "base/untrusted.h"

namespace shunt::driver {
namespace {

constexpr std::chrono::seconds kStalledAfter{2};
constexpr int kLinesMax = 10;  // in kLinesTime
constexpr std::chrono::seconds kLinesTime{10};

}  // namespace

Peer::Peer(const window::Backing& backing, const wire::Partition& partition,
           const wire::Partition& self, layout::Section* own, std::chrono::milliseconds dead_after)
    : partition_(partition),
      own_number_(self.number),
      file_(backing, partition, window::Access::kReadOnly),
      own_(own) {
  if (backing.device) liveness_.emplace(section(), own_number_, dead_after);
  read_anew();
}

void Peer::read_anew() {
  reader_.emplace(own_, own_number_, section(), number(), file_.geometry(),
                  liveness_ ? window::Sessions::kAsk : window::Sessions::kFollow);
}

std::uint64_t Peer::generation() const {
  if (liveness_) return liveness_->session();
  return Untrusted(section()->header.life.generation).copy_acquire();
}

bool Peer::speaks() const { return !liveness_ || liveness_->life() == PeerLife::kAlive; }

bool Peer::up(Clock::time_point now) {
  if (liveness_) {
    // One that has come a moment ago is not turned away.
    if (liveness_->life() != PeerLife::kAlive) liveness_->look(now);
    return liveness_->life() == PeerLife::kAlive;
  }
  const layout::SectionLife& life = section()->header.life;
  // Acquire: a driver that says it is up has emptied its lanes before.
  const auto state = Untrusted(life.state).copy_acquire();
  if (state != static_cast<std::uint32_t>(layout::DriverState::kUp) || !file_.locked()) {
    return false;
  }
  const std::uint64_t heartbeat = Untrusted(life.heartbeat).copy();
  if (heartbeat != heartbeat_ || heartbeat_seen_ == Clock::time_point{}) {
    heartbeat_ = heartbeat;
    heartbeat_seen_ = now;
  }
  return now - heartbeat_seen_ < kStalledAfter;
}

bool Peer::worth_a_line(Clock::time_point now) {
  if (now - lines_since_ >= kLinesTime) {
    lines_since_ = now;
    lines_ = 0;
  }
  return ++lines_ <= kLinesMax;
}

std::uint32_t Peer::sleeping() const { return Untrusted(section()->header.sleep.sleeping).copy(); }

}  // namespace shunt::driver
