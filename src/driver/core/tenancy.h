// Tenancy: the own place in a window on a device, taken at start and watched ever after.
//
// The section's lock tells drivers of one kernel apart. Between kernels there are the heart, and `token`, drawn
// at random at each start:
//
//   take()        the section says that another kernel's driver is up: its heart is watched; if it beats,
//                 refused. Otherwise the token is written.
//   confirm()     two ticks later the token must still be there: of two drivers that start at once one goes.
//   still_ours()  at every tick. A driver that was paused and replaced meanwhile finds the other's token.
//
// A damaged token alone ends nobody: it is written again, and only if the same foreign token and life come back while
// a foreign heart beats on, kForeignTicks times in a row, the section is somebody else's. What writes over all of the
// section again and again cannot do that: noise is never the same twice, and a constant does not beat. Until it is
// clear, one way or, after kOwnTicks with the own token, the other, disputed() says so, and the driver keeps still. Of
// two drivers that both find the other's token both do; the one that found it first, who has been replaced, leaves
// first.
//
// Thread safety: one thread. Errors: WindowError for a person.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "layout/section.h"
#include "window/boot_id.h"

namespace shunt::driver {

inline constexpr int kForeignTicks = 3;
inline constexpr int kOwnTicks =
    2;  // in a row: between two ticks of one driver the other's may not fall

class Tenancy {
 public:
  using Clock = std::chrono::steady_clock;
  // What take() waits with; tests have a clock of their own.
  struct Waiting {
    std::function<Clock::time_point()> now;
    std::function<void(std::chrono::milliseconds)> sleep;
  };
  static Waiting real_time();

  // `life`: of the own section, whose lock the caller holds.
  Tenancy(layout::SectionLife* life, std::chrono::milliseconds dead_after,
          Waiting waiting = real_time());

  // Sleeps up to dead_after if the section says that another kernel's driver is up, else not at all. `partition`,
  // `window`: for the message.
  void take(const std::string& partition, const std::string& window);
  void confirm(const std::string& partition, const std::string& window) const;
  // False: leave. What the section's heart and life were when the caller last wrote them.
  bool still_ours(std::uint64_t own_heartbeat, std::uint64_t own_life);
  bool disputed() const { return foreign_ticks_ > 0; }

 private:
  struct Other {
    std::uint64_t token = 0;
    std::uint64_t life = 0;
    std::uint64_t heartbeat = 0;
  };
  bool beats() const;  // within dead_after

  layout::SectionLife* life_;
  std::chrono::milliseconds dead_after_;
  Waiting waiting_;
  window::BootId boot_id_;
  std::uint64_t token_ = 0;
  Other other_;  // as last seen
  int foreign_ticks_ = 0;
  int own_ticks_ = 0;
};

}  // namespace shunt::driver
