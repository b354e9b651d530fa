// How long a polling driver sleeps between two looks at the lanes: not at all for a moment after
// traffic, then ever longer up to a millisecond, and after a second without any up to four, so that it
// answers fast while there is something to answer and burns little while there is not.
//
// Thread safety: one thread.
#pragma once

#include <algorithm>
#include <cassert>
#include <chrono>

namespace shunt::driver {

class Pacing {
 public:
  using Clock = std::chrono::steady_clock;

  std::chrono::microseconds pause(bool had_work, Clock::time_point now) {
    assert(now >= last_work_);
    if (had_work) {
      last_work_ = now;
      sleep_ = kFirst;
    }
    if (now - last_work_ < kSpin) return std::chrono::microseconds{0};
    const auto result = sleep_;
    sleep_ = std::min(sleep_ * 2, now - last_work_ < kQuiet ? kLongest : kLongestQuiet);
    assert(result <= kLongestQuiet);
    return result;
  }

  static constexpr std::chrono::microseconds kSpin{200};
  static constexpr std::chrono::microseconds kFirst{20};
  static constexpr std::chrono::microseconds kLongest{1000};
  static constexpr std::chrono::seconds kQuiet{1};
  static constexpr std::chrono::microseconds kLongestQuiet{4000};

 private:
  Clock::time_point last_work_{};
  std::chrono::microseconds sleep_ = kLongest;
};

}  // namespace shunt::driver
