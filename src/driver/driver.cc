#include "driver/driver.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <system_error>
#include <utility>

#include "driver/carriers/datagram_doorbell.h"
#include "driver/doorbells/doorbells.h"
#include "driver/strangers/window_sockets.h"
#include "window/error.h"
#include "window/runtime_directory.h"

namespace shunt::driver {
namespace {

constexpr std::uint32_t kMessagesAtOnce = 64;  // of one lane, before the others have their turn

// Enough for a thousand bells that hang up at once (Poller: 64 events), and never for ever.
constexpr int kLastRounds = 16;

// What a doorbell may take from the other driver's look at our section to our socket.
constexpr std::chrono::microseconds kOnItsWay{500};

window::UniqueFd require(int fd, const char* what) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), what);
  return window::UniqueFd(fd);
}

}  // namespace

Driver::Driver(const Options& options)
    : core_(options),
      socket_files_{core_},
      mailbox_(core_, bind_peer_socket(core_.backing, options.partition)),
      descriptors_(core_.on_device() ? nullptr
                                     : std::make_unique<DescriptorCarrier>(core_, mailbox_)),
      ranges_(core_.on_device() ? make_ranges() : nullptr),
      carrier_(ranges_ ? static_cast<Carrier&>(*ranges_) : *descriptors_),
      requests_(core_, carrier_, mailbox_, bind_driver_socket(core_.backing, options.partition)),
      arrivals_(core_, carrier_),
      timer_(require(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd")),
      stop_event_(require(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  assert((ranges_ != nullptr) != (descriptors_ != nullptr));
  make_doorbells();
  stop_when_readable(stop_event_.get());
  start_ticking();
  if (core_.on_device()) core_.poller.first_of_all([this] { after_sleep(); });
  core_.open();
  if (core_.on_device()) announce();
}

std::unique_ptr<RangeCarrier> Driver::make_ranges() {
  return std::make_unique<RangeCarrier>(
      core_, [this](std::uint32_t peer, std::uint64_t id) { arrivals_.withdraw(peer, id); });
}

void Driver::make_doorbells() {
  DoorbellMaker maker(core_, [this] { count(core_.counters().doorbells_received); });
  for (const auto& peer : core_.peers()) {
    if (!peer) continue;
    const auto spec = core_.options.doorbells.find(peer->name());
    if (spec == core_.options.doorbells.end()) {
      peer->doorbell = std::make_unique<DatagramDoorbell>(core_, mailbox_, *peer);
    } else {
      peer->doorbell = maker.make(spec->second, *peer);
    }
    core_.peer_counters(*peer).doorbell_kind.store(
        static_cast<std::uint16_t>(peer->doorbell->kind()), std::memory_order_relaxed);
  }
  maker.open();
}

Driver::~Driver() {
  core_.close();
  requests_.refuse_all(wire::Reason::kDriverDown);
}

Driver::SocketFiles::SocketFiles(const Core& c) : core(c) {
  if (core.on_device()) window::write_runtime_directory(core.backing);
}

Driver::SocketFiles::~SocketFiles() { remove_sockets(core.backing, core.options.partition); }

void Driver::stop() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_event_.get(), &one, sizeof one);
}

void Driver::stop_when_readable(int fd) {
  core_.poller.add(fd, EPOLLIN, [this](auto) { stopping_ = true; });
}

void Driver::start_ticking() {
  const auto ms = core_.options.tick.count();
  itimerspec spec{};
  spec.it_interval.tv_sec = ms / 1000;
  spec.it_interval.tv_nsec = ms % 1000 * 1000000;
  spec.it_value = spec.it_interval;
  ::timerfd_settime(timer_.get(), 0, &spec, nullptr);
  core_.poller.add(timer_.get(), EPOLLIN, [this](auto) { on_tick(); });
}

void Driver::on_tick() {
  std::uint64_t expirations;
  [[maybe_unused]] const ssize_t n = ::read(timer_.get(), &expirations, sizeof expirations);
  ticked_ = true;
  const Clock::time_point now = Clock::now();
  if (core_.on_device()) watch_window(now);
  look_at_doorbells();
  core_.beat();
  requests_.check(now);
  if (!core_.interrupt_mode()) mailbox_.drain();
  if (descriptors_) descriptors_->check(now);
}

void Driver::run() {
  while (!stopping_) {
    bool had_work = false;
    auto limit = Poller::kForever;
    if (!core_.disputed()) {
      had_work = read_lanes();
      core_.flush_backlogs();
      if (ranges_) limit = ranges_->flush(Clock::now());
    }
    for (const auto& peer : core_.peers()) {
      if (peer) peer->doorbell->drain();
    }
    wait(had_work, limit);
  }
  say_the_last();
}

// What happened before we were told to stop is told before we are gone: a bell that hung up in the same moment is a
// connection that ended as it should, not one that our end resets.
void Driver::say_the_last() {
  for (int round = 0; round < kLastRounds && !core_.disputed(); ++round) {
    core_.poller.wait(std::chrono::microseconds{0});
    core_.flush_backlogs();
    if (ranges_) ranges_->flush(Clock::now());
  }
}

void Driver::wait(bool had_work, std::chrono::microseconds limit) {
  const auto bounded = [limit](std::chrono::microseconds time) {
    if (limit == Poller::kForever) return time;
    return time == Poller::kForever ? limit : std::min(time, limit);
  };
  ticked_ = false;
  if (core_.disputed()) {  // `sleeping` may be another driver's
    core_.poller.wait(bounded(Poller::kForever));
    return;
  }
  if (!core_.interrupt_mode() || !everybody_can_ring()) {
    const int events = core_.poller.wait(bounded(pacing_.pause(had_work, Clock::now())));
    // A request that came in is traffic too; the heartbeat is not.
    if (events > (ticked_ ? 1 : 0)) pacing_.pause(true, Clock::now());
    return;
  }
  core_.announce_sleep();
  const bool news = core_.any_lane_has_news();
  const int events =
      core_.poller.wait(news ? std::chrono::microseconds{0} : bounded(Poller::kForever));
  if (core_.on_device() && !news && events == 1 && ticked_ && core_.any_lane_has_news() &&
      core_.poller.wait(kOnItsWay) == 0) {
    count(core_.section().header.arena.doorbells_missed);
  }
  core_.announce_awake();
}

bool Driver::read_lanes() {
  bool had_work = false;
  const Clock::time_point now = Clock::now();
  for (const auto& peer : core_.peers()) {
    if (!peer) continue;
    if (core_.on_device()) look_at(*peer, now);
    if (peer->speaks() && read_lane(*peer, kMessagesAtOnce)) {
      had_work = true;
      peer->doorbell->had_news();
    }
  }
  return had_work;
}

bool Driver::read_lane(Peer& peer, std::uint32_t most) {
  assert(!core_.disputed());
  wire::MessageBytes bytes;
  for (std::uint32_t i = 0; i < most; ++i) {
    const window::ReadResult result = peer.reader().read(&bytes);
    if (result == window::ReadResult::kEmpty) return i > 0;
    if (result == window::ReadResult::kMessage) {
      dispatch(peer, bytes);
      continue;
    }
    report(peer, result == window::ReadResult::kBadLane ? "counters beyond its ring"
                                                        : "an entry outside its buffers");
    if (core_.on_device()) {
      peer.liveness()->break_lane();
      return true;
    }
  }
  return true;
}

void Driver::dispatch(Peer& from, const wire::MessageBytes& bytes) {
  const auto message = wire::decode(bytes.data(), bytes.size());
  if (!message.ok()) {
    report(from, "a malformed message");
    if (core_.on_device()) from.liveness()->break_lane();
    return;
  }
  count(core_.counters().messages_received);
  if (!is_for_us(from, message.value())) {
    count(core_.section().header.arena.messages_stale);
    return;
  }
  switch (message.value().type) {
    case wire::MessageType::kConnect:
      arrivals_.on_connect(from, message.value());
      break;
    case wire::MessageType::kNotice:
      if (ranges_) {
        ranges_->on_notices(from, message.value());
      } else {
        count(core_.counters().messages_bad);
      }
      break;
    default:
      if (ranges_) ranges_->on_verdict(from, message.value());
      requests_.on_verdict(from, message.value());
  }
}

void Driver::report(Peer& from, const char* what) {
  count(core_.counters().messages_bad);
  const std::uint64_t generation = from.generation();
  if (std::exchange(from.reported_generation, generation) == generation) return;
  if (!from.worth_a_line(Clock::now())) return;
  spdlog::warn("partition '{}': {} in its output queue; further ones are only counted", from.name(),
               what);
}

}  // namespace shunt::driver
