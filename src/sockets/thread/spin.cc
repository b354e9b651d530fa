#include "sockets/thread/spin.h"

#include <unistd.h>

#include <algorithm>

#include "sys/kernel.h"

namespace shunt::sockets {

std::uint64_t ticks_per_us = 2000;
std::uint32_t spin_cap_us = 0;
std::uint32_t far_spin_cap_us = 0;
std::atomic<bool> rung_far{false};

namespace {
constexpr std::uint32_t kStartUs = 20;
constexpr std::uint32_t kLeastUs = 10;
constexpr std::uint32_t kCapUs = 80;
constexpr std::uint32_t kFarCapLeastUs = 200;
constexpr std::uint32_t kFarCapMostUs = 2'000;
constexpr std::uint32_t kFarCapInMessages = 300;  // a wake-up through two drivers
constexpr std::uint32_t kTrialCaps = 100;         // in caps: a few scheduler ticks
constexpr std::uint32_t kPreemptions = 16;        // use a trial up
constexpr std::uint32_t kLookUs = 50;
constexpr std::uint32_t kHitUs = 2;            // what a hit pays back: about the sleep it saved
constexpr std::uint32_t kHitsToTrust = 4'000;  // after so many, an earlier failure is forgotten
constexpr std::uint32_t kQuietFirstUs = 60'000;
constexpr std::uint32_t kQuietMostUs = 2'000'000;
}  // namespace

void calibrate_clock() {
  // 200 us are enough: the budget needs no precision.
  const std::int64_t from = sys::monotonic_ns();
  const std::uint64_t begin = ticks();
  std::int64_t now = from;
  while (now - from < 200'000) now = sys::monotonic_ns();
  const std::uint64_t spent = ticks() - begin;
  ticks_per_us = std::max<std::uint64_t>(1, spent * 1000 / static_cast<std::uint64_t>(now - from));
  // The machine's processors, not this thread's affinity: the peer may be pinned elsewhere.
  spin_cap_us = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? kCapUs : 0;
}

void calibrate_far() {
  if (far_spin_cap_us != 0) return;
  far_spin_cap_us = kFarCapLeastUs;
  int pair[2];
  if (sys::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return;
  std::uint64_t least = ~std::uint64_t{0};
  for (int i = 0; i < 8; ++i) {
    std::uint8_t byte = 0;
    const std::uint64_t begin = ticks();
    sys::send(pair[0], &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    sys::recv(pair[1], &byte, 1, MSG_DONTWAIT);
    least = std::min(least, ticks() - begin);
  }
  sys::close(pair[0]);
  sys::close(pair[1]);
  const std::uint64_t estimate = least * kFarCapInMessages / ticks_per_us;
  far_spin_cap_us = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(estimate, kFarCapLeastUs, kFarCapMostUs));
}

void nap() {
  constexpr timespec kShortest{0, 1};
  sys::raw(SYS_nanosleep, sys::arg(&kShortest), 0);
}

SpinBudget SpinHabit::load() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  return {.us = us_.load(kRelaxed),
          .debt_us = debt_us_.load(kRelaxed),
          .hits = hits_.load(kRelaxed),
          .quiet_us = quiet_us_.load(kRelaxed),
          .quiet_until = quiet_until_.load(kRelaxed),
          .far = false};
}

void SpinHabit::store(const SpinBudget& budget) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  us_.store(budget.us, kRelaxed);
  debt_us_.store(budget.debt_us, kRelaxed);
  hits_.store(budget.hits, kRelaxed);
  quiet_us_.store(budget.quiet_us, kRelaxed);
  quiet_until_.store(budget.quiet_until, kRelaxed);
}

std::uint32_t SpinBudget::longest_look_us() const { return std::max(kLookUs, cap() / 4); }

std::uint32_t SpinBudget::begin() const {
  if (cap() == 0 || ticks() < quiet_until) return 0;
  return us == 0 ? kStartUs : us;
}

std::uint32_t SpinBudget::begin(std::int64_t deadline_ns) const {
  const std::uint32_t most = begin();
  if (!far || deadline_ns <= 0) return most;
  const std::int64_t left_us = (deadline_ns - sys::monotonic_ns()) / 1000;
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left_us, 0, most));
}

void SpinBudget::hit() {
  debt_us -= std::min(debt_us, far ? cap() / 4 : kHitUs);
  if (quiet_us != 0 && ++hits >= kHitsToTrust) quiet_us = 0;
}

void SpinBudget::in_vain(std::uint32_t for_us) {
  debt_us += for_us;
  if (debt_us < kTrialCaps * cap()) return;
  debt_us = 0;
  hits = 0;
  quiet_us = std::clamp(quiet_us * 2, kQuietFirstUs, kQuietMostUs);
  quiet_until = ticks() + quiet_us * ticks_per_us;
}

// A near peer may be who was kept from the CPU; a far one has its own, and only what was spun is lost.
void SpinBudget::preempted() { in_vain(far ? begin() : kTrialCaps * cap() / kPreemptions); }

void SpinBudget::slept(std::uint32_t for_us) {
  const std::uint32_t spent = begin();
  if (spent == 0) return;  // did not spin
  // The wake-up itself, from far away, takes a good part of the sleep.
  if (for_us < (far ? 2 * cap() : cap())) {
    us = std::min(spent * 2, cap());
    in_vain(spent);
  } else {
    us = std::max(spent / 2, kLeastUs);
  }
}

}  // namespace shunt::sockets
