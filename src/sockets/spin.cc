#include "sockets/spin.h"

#include <unistd.h>

#include <algorithm>

#include "sys/kernel.h"

namespace shunt::sockets {

std::uint64_t ticks_per_us = 2000;
std::uint32_t spin_cap_us = 0;

namespace {
constexpr std::uint32_t kStartUs = 20;
constexpr std::uint32_t kLeastUs = 10;
constexpr std::uint32_t kCapUs = 80;
constexpr std::uint32_t kTrialUs = 8'000;      // a few scheduler ticks
constexpr std::uint32_t kPreemptedUs = 500;    // what a preemption counts as
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

std::uint32_t SpinBudget::begin() const {
  if (spin_cap_us == 0 || ticks() < quiet_until) return 0;
  return us == 0 ? kStartUs : us;
}

void SpinBudget::hit() {
  debt_us -= std::min(debt_us, kHitUs);
  if (quiet_us != 0 && ++hits >= kHitsToTrust) quiet_us = 0;
}

void SpinBudget::in_vain(std::uint32_t for_us) {
  debt_us += for_us;
  if (debt_us < kTrialUs) return;
  debt_us = 0;
  hits = 0;
  quiet_us = std::clamp(quiet_us * 2, kQuietFirstUs, kQuietMostUs);
  quiet_until = ticks() + quiet_us * ticks_per_us;
}

void SpinBudget::preempted() { in_vain(kPreemptedUs); }

void SpinBudget::slept(std::uint32_t for_us) {
  const std::uint32_t spent = begin();
  if (spent == 0) return;  // did not spin
  if (for_us < spin_cap_us) {
    us = std::min(spent * 2, spin_cap_us);
    in_vain(spent);
  } else {
    us = std::max(spent / 2, kLeastUs);
  }
}

}  // namespace shunt::sockets
