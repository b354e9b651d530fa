// How long to look at shared memory before sleeping in the kernel, adapted as KVM's halt polling is.
//
// Spinning pays when the answer comes sooner than a sleep and a wake-up cost, and harms when the CPU
// is wanted by others, the peer perhaps. So the budget grows when a sleep turned out short and shrinks
// when it turned out long. What was spun in vain adds up to a debt that hits pay back in small coin;
// too much of it ends the trial, and a quiet time without spinning follows, twice as long after each
// trial that failed. On a machine with a single processor there is no spinning at all, unless the peer
// is *far*, on another kernel and so on other processors: then a sleep and its wake-up also pass two drivers
// and a doorbell, so that a longer look pays. How long that takes is estimated in messages over a socket, each of
// which takes ten times as long in an emulated machine as elsewhere.
//
// Who has just rung a far peer knows that it sleeps, and that the own driver and the machine below have work to do
// before an answer can come, perhaps on this very processor. So he naps once, for the shortest time that there is,
// before he looks, and gives the processor up between the looks to whoever wants it.
//
// A trial lasts some milliseconds on purpose: two programs that always sleep and wake each other are
// kept on one CPU by the scheduler although another is idle. Only when both stay runnable over a few
// scheduler ticks are they put apart, and then spinning hits.
//
// Plain data, zero-initialised; a race between threads only blurs the estimate.
#pragma once

#include <x86intrin.h>

#include <atomic>
#include <cstdint>

#include "sockets/thread/signals.h"
#include "sys/kernel.h"

namespace shunt::sockets {

// Time-stamp counter ticks for each microsecond; measured once.
extern std::uint64_t ticks_per_us;
// 0 on a machine with one processor: nobody could answer while we look. For far peers another one.
extern std::uint32_t spin_cap_us;
extern std::uint32_t far_spin_cap_us;
void calibrate_clock();
void calibrate_far();  // before the first connection to a far peer; any number of times

inline std::uint64_t ticks() { return __rdtsc(); }

struct SpinBudget {
  std::uint32_t us;           // 0: not started
  std::uint32_t debt_us;      // spun in vain, less what hits paid back
  std::uint32_t hits;         // since the latest quiet time
  std::uint32_t quiet_us;     // length of the latest quiet time; 0: none lately
  std::uint64_t quiet_until;  // ticks
  bool far;                   // what is waited for comes from another kernel

  std::uint32_t cap() const { return far ? far_spin_cap_us : spin_cap_us; }
  std::uint32_t begin() const;  // budget in us for this wait; 0: go to sleep at once
  std::uint32_t begin(std::int64_t deadline_ns) const;  // the same; far peers' may be a long one
  void hit();                                           // spinning found what it waited for
  void preempted();                                     // somebody else wanted the CPU
  // Between two looks; more means that something else had the CPU.
  std::uint32_t longest_look_us() const;
  void slept(std::uint32_t for_us);  // the sleep after a wait that began with begin()

 private:
  void in_vain(std::uint32_t for_us);
};

// What connections to one process have learned about waiting for it, for the next one to begin with: each for itself
// would try anew, and a short connection is over before it has learned anything. Torn by a race it is still an estimate.
class SpinHabit {
 public:
  SpinBudget load() const;
  void store(const SpinBudget& budget);
  void clear() { store({}); }

 private:
  std::atomic<std::uint32_t> us_{0};
  std::atomic<std::uint32_t> debt_us_{0};
  std::atomic<std::uint32_t> hits_{0};
  std::atomic<std::uint32_t> quiet_us_{0};
  std::atomic<std::uint64_t> quiet_until_{0};
};

// A far peer was rung since somebody looked last.
extern std::atomic<bool> rung_far;
inline bool take_rung_far() {
  return rung_far.load(std::memory_order_relaxed) &&
         rung_far.exchange(false, std::memory_order_relaxed);
}
void nap();

enum class Spin {
  kReady,
  kNothing,  // the budget is over
  // A handler has run meanwhile, as if the caller had slept.
  kHandlerRestarts,  // which goes with poll() and with time-outs, too, as the end of the call
  kHandlerEnds,
};

// After a far ring: naps once, then looks until `ready()` or the budget of `us` is over. Whoever else wants this
// processor, our driver perhaps, has it between the looks.
template <typename Ready>
Spin nap_and_look(SpinBudget& budget, std::uint32_t us, Ready ready) {
  constexpr int kLooksAtOnce = 64;
  const SignalsHeld held;
  const std::uint64_t start = ticks();
  nap();
  for (;;) {
    for (int i = 0; i < kLooksAtOnce; ++i) {
      if (ready()) {
        budget.hit();
        return Spin::kReady;
      }
      _mm_pause();
    }
    const SignalsHeld::Arrived arrived = held.arrived();
    if (arrived == SignalsHeld::Arrived::kEnds) return Spin::kHandlerEnds;
    if (arrived == SignalsHeld::Arrived::kRestarts) return Spin::kHandlerRestarts;
    if (ticks() - start > us * ticks_per_us) return Spin::kNothing;
    sys::sched_yield();
  }
}

// Looks until `ready()` or the budget is over. Notices preemption. `deadline_ns`: monotonic, <= 0: none.
template <typename Ready>
Spin spin_until(SpinBudget& budget, std::int64_t deadline_ns, Ready ready) {
  const std::uint32_t us = budget.begin(deadline_ns);
  if (us == 0) return Spin::kNothing;
  if (budget.far && take_rung_far()) return nap_and_look(budget, us, ready);
  const std::uint64_t start = ticks();
  const std::uint64_t limit = us * ticks_per_us;
  const std::uint64_t gap = budget.longest_look_us() * ticks_per_us;
  std::uint64_t last = start;
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      if (ready()) {
        budget.hit();
        return Spin::kReady;
      }
      _mm_pause();
    }
    const std::uint64_t now = ticks();
    if (now - last > gap) {
      budget.preempted();
      return ready() ? Spin::kReady : Spin::kNothing;
    }
    if (now - start > limit) return Spin::kNothing;
    last = now;
  }
}

}  // namespace shunt::sockets
