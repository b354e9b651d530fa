// Doorbell: wakes the driver of another partition that sleeps, and is woken by it.
//
// A ring means "look at my lane" and nothing else. It may get lost without harm to anything but time:
// whoever sleeps looks at the lanes at each tick.
//
// Thread safety: one thread. Errors: ring() returns errno.
#pragma once

#include "layout/section.h"

namespace shunt::driver {

class Doorbell {
 public:
  virtual ~Doorbell() = default;
  // Whether the peer can be rung, and so can ring us.
  virtual bool present() const = 0;
  // 0; EAGAIN: enough rings are under way to wake it; or why not.
  virtual int ring() = 0;
  virtual void tick() = 0;  // opens it again if it is not there
  // After the lanes were read: takes what rang. Whoever sleeps is woken before that, which takes a while.
  virtual void drain() {}
  // The peer's lane had something: its rings were not in vain.
  virtual void had_news() {}
  virtual layout::DoorbellKind kind() const = 0;
};

}  // namespace shunt::driver
