#include "driver/core/tenancy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <random>
#include <thread>
#include <utility>

#include "window/error.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

constexpr auto kGlance = 20ms;

std::uint64_t draw() {
  std::random_device source;
  const std::uint64_t token = (std::uint64_t{source()} << 32) | source();
  return token != 0 ? token : 1;
}

[[noreturn]] void refuse(const std::string& partition, const std::string& window) {
  throw window::WindowError(fmt::format(
      "partition '{}' of window {} is driven by another system: a partition has exactly "
      "one driver",
      partition, window));
}

}  // namespace

Tenancy::Waiting Tenancy::real_time() {
  return {Clock::now, [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }};
}

Tenancy::Tenancy(layout::SectionLife* life, std::chrono::milliseconds dead_after, Waiting waiting)
    : life_(life),
      dead_after_(dead_after),
      waiting_(std::move(waiting)),
      boot_id_(window::boot_id()),
      token_(draw()) {
  assert(token_ != 0);
}

bool Tenancy::beats() const {
  const std::uint64_t before = life_->heartbeat.load(std::memory_order_relaxed);
  const Clock::time_point end = waiting_.now() + dead_after_;
  do {
    waiting_.sleep(std::min<std::chrono::milliseconds>(kGlance, dead_after_));
    if (life_->heartbeat.load(std::memory_order_relaxed) != before) return true;
  } while (waiting_.now() < end);
  return false;
}

void Tenancy::take(const std::string& partition, const std::string& window) {
  const bool up = life_->state.load(std::memory_order_relaxed) ==
                  static_cast<std::uint32_t>(layout::DriverState::kUp);
  const bool elsewhere = life_->boot_id[0].load(std::memory_order_relaxed) != boot_id_[0] ||
                         life_->boot_id[1].load(std::memory_order_relaxed) != boot_id_[1];
  if (up && elsewhere && beats()) refuse(partition, window);
  life_->boot_id[0].store(boot_id_[0], std::memory_order_relaxed);
  life_->boot_id[1].store(boot_id_[1], std::memory_order_relaxed);
  life_->dead_after_ms.store(static_cast<std::uint32_t>(dead_after_.count()),
                             std::memory_order_relaxed);
  life_->token.store(token_, std::memory_order_release);
}

void Tenancy::confirm(const std::string& partition, const std::string& window) const {
  if (life_->token.load(std::memory_order_acquire) != token_) refuse(partition, window);
}

bool Tenancy::still_ours(std::uint64_t own_heartbeat, std::uint64_t own_life) {
  assert(own_life != 0);
  const std::uint64_t token = life_->token.load(std::memory_order_acquire);
  if (token == token_) {
    if (disputed() && ++own_ticks_ >= kOwnTicks) foreign_ticks_ = 0;
    return true;
  }
  own_ticks_ = 0;
  const Other seen{token, life_->generation.load(std::memory_order_relaxed),
                   life_->heartbeat.load(std::memory_order_relaxed)};
  const bool beat = seen.heartbeat != own_heartbeat && seen.heartbeat != other_.heartbeat;
  const bool driver = beat && seen.token != 0 && seen.life != 0 && seen.life != own_life;
  if (!driver || seen.token != other_.token || seen.life != other_.life) foreign_ticks_ = 0;
  other_ = seen;
  if (++foreign_ticks_ >= kForeignTicks && driver) return false;
  life_->token.store(token_, std::memory_order_release);
  return true;
}

}  // namespace shunt::driver
