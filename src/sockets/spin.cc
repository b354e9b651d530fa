#include "sockets/spin.h"

#include <sched.h>

#include <algorithm>

#include "sys/kernel.h"

namespace shunt::sockets {

std::uint64_t ticks_per_us = 2000;
std::uint32_t spin_cap_us = 0;

namespace {
constexpr std::uint32_t kStartUs = 20;
constexpr std::uint32_t kCapUs = 80;
constexpr std::uint32_t kMissesAllowed = 4;
constexpr std::uint32_t kSkipFirst = 8;
constexpr std::uint32_t kSkipMost = 1024;
}  // namespace

void calibrate_clock() {
  // 200 us are enough: the budget needs no precision.
  const std::int64_t from = sys::monotonic_ns();
  const std::uint64_t begin = ticks();
  std::int64_t now = from;
  while (now - from < 200'000) now = sys::monotonic_ns();
  const std::uint64_t spent = ticks() - begin;
  ticks_per_us = std::max<std::uint64_t>(1, spent * 1000 / static_cast<std::uint64_t>(now - from));
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const long n = sys::raw(SYS_sched_getaffinity, 0, sizeof cpus, sys::arg(&cpus));
  spin_cap_us = n > 0 && CPU_COUNT(&cpus) > 1 ? kCapUs : 0;
}

std::uint32_t SpinBudget::begin() {
  if (spin_cap_us == 0) return 0;
  if (skip > 0) {
    --skip;
    return 0;
  }
  if (us == 0) us = kStartUs;
  return us;
}

void SpinBudget::hit() {
  misses = 0;
  skip_next = 0;
}

void SpinBudget::preempted() {
  us = kStartUs;
  misses = 0;
  skip_next = std::clamp(skip_next * 2, kSkipFirst, kSkipMost);
  skip = skip_next;
}

void SpinBudget::slept(std::uint32_t for_us) {
  if (us == 0) return;  // did not spin
  if (for_us < spin_cap_us) {
    us = std::min(us * 2, spin_cap_us);
  } else {
    us = std::max(us / 2, kStartUs / 2);
  }
  if (++misses >= kMissesAllowed) {
    misses = 0;
    skip_next = std::clamp(skip_next * 2, kSkipFirst, kSkipMost);
    skip = skip_next;
  }
}

}  // namespace shunt::sockets
