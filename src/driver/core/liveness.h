// Liveness: which other partitions are there, in a window on a device. Nobody's lock can be asked across
// kernels; only heartbeats and sessions tell.
//
// A *session* is one side's numbering of a pair: the generation of its lane to the other (life << 16 |
// restarts). It changes when that driver starts, and when it declares the other dead. Each message names
// the receiver's session as its sender knows it, and the sender's own; one whose sessions are not both those
// of now is dropped and counted. So whatever was posted before a death is never acted on after it, by neither
// side, and nothing twice.
//
//   kSilent   no beat seen yet                                             connects fail at once
//   kAlive    the heart beat within dead_after
//   kDead     declared: silent for dead_after, state down, a broken lane   connects fail at once
//
//   kSilent, kDead -> kAlive   a beat, and state up, no earlier than a tick after kDied: kCame
//                              whoever dies and comes at each look costs little
//   kAlive -> kDead            read the lane to its end if it says that it goes; reset   kDied
//                              links, free ranges, restart the own lane
//   kAlive -> kAlive           the peer's session changed (it restarted, or it declared  kRestarted
//                              *us* dead while we were away): reset links, free ranges;
//                              no new session of ours
//
// No driver goes back to an earlier session. A lane that seems to was written over, and its messages of the
// session that shows now may have been read before: that is a death, and our new session makes them stale.
//
// The driver looks for a new session before it reads the lane, and acknowledges the one that it has acted on,
// whatever the lane shows by then. So an acknowledgement of my session says "all my programs' connections to your
// earlier sessions are reset", but for those that your side had closed, of which mine may still read the rest. A
// starting driver gives out no area before every beating peer has said so.
//
// A driver that was away itself (paused, starved) learns nothing from a heart that did not beat for it: the
// time of silence then starts anew. A system that pauses as a whole loses no connection.
//
// Thread safety: one thread; the clock is an argument. Errors: none.
#pragma once

#include <chrono>
#include <cstdint>

#include "layout/section.h"

namespace shunt::driver {

enum class PeerLife { kSilent, kAlive, kDead };

class Liveness {
 public:
  using Clock = std::chrono::steady_clock;

  // `section`: the peer's.
  Liveness(const layout::Section* section, std::uint32_t own_number,
           std::chrono::milliseconds dead_after, std::chrono::milliseconds tick);

  enum class Change { kNone, kCame, kRestarted, kDied };
  // At least at every tick, and before each look at the peer's lane.
  Change look(Clock::time_point now);
  // The next look() says kDied, whatever the heart does.
  void break_lane() { broken_ = true; }

  PeerLife life() const { return life_; }
  // Acquire: who sees that it does not sees everything that its lane will ever hold.
  bool says_up() const;
  // Of the peer towards us, as last seen; 0: none yet.
  std::uint64_t session() const { return session_; }
  // Whether nobody is there who could still use what belonged to our earlier sessions: the peer has acknowledged
  // `own_session`, says that it is down, or has been silent since we first looked, for `long_enough`.
  bool acknowledged(std::uint64_t own_session, Clock::time_point now,
                    std::chrono::milliseconds long_enough) const;

 private:
  enum class Session { kSame, kLater, kEarlier };
  Session see_session();

  const layout::Section* section_;
  std::uint32_t own_number_;
  std::chrono::milliseconds dead_after_;
  std::chrono::milliseconds tick_;
  PeerLife life_ = PeerLife::kSilent;
  std::uint64_t session_ = 0;
  std::uint64_t heartbeat_ = 0;
  Clock::time_point first_look_{};
  Clock::time_point last_look_{};
  Clock::time_point beat_seen_{};  // or the end of our own absence
  Clock::time_point died_{};
  bool beaten_ = false;  // since the first look
  bool broken_ = false;
};

}  // namespace shunt::driver
