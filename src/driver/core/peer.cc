#include "driver/core/peer.h"

#include <cassert>
#include <utility>

#include "base/untrusted.h"

namespace shunt::driver {
namespace {

constexpr std::chrono::seconds kStalledAfter{2};

// Of log lines about one peer's life.
constexpr std::chrono::minutes kLinesEvery{1};
constexpr int kLinesMax = 10;

}  // namespace

Peer::Peer(const window::Backing& backing, const wire::Partition& partition,
           const wire::Partition& self, layout::Section* own, const Options& options)
    : partition_(partition),
      own_number_(self.number),
      file_(backing, partition, window::Access::kReadOnly),
      own_(own) {
  assert(partition.number != self.number);
  if (backing.device) liveness_.emplace(section(), own_number_, options.dead_after, options.tick);
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
    if (liveness_->life() != PeerLife::kAlive) {
      came_ = liveness_->look(now) == Liveness::Change::kCame || came_;
    }
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

Liveness::Change Peer::look(Clock::time_point now) {
  assert(liveness_);
  const Liveness::Change change = liveness_->look(now);
  const bool came = std::exchange(came_, false);
  return came && change == Liveness::Change::kNone ? Liveness::Change::kCame : change;
}

bool Peer::worth_a_line(Clock::time_point now) {
  if (now - lines_since_ >= kLinesEvery) {
    lines_since_ = now;
    lines_ = 0;
  }
  return ++lines_ <= kLinesMax;
}

std::uint32_t Peer::sleeping() const { return Untrusted(section()->header.sleep.sleeping).copy(); }

}  // namespace shunt::driver
