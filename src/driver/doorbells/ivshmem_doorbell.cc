#include "driver/doorbells/ivshmem_doorbell.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "base/untrusted.h"

namespace shunt::driver {
namespace {

constexpr std::uint64_t kAddressBits = layout::kIvshmemThere |
                                       std::uint64_t{0xffff} << layout::kIvshmemNumberShift |
                                       layout::kIvshmemVectorMask;

// Number, vector and that they are there; 0: they are not.
std::uint64_t address_in(std::uint64_t word) {
  return (word & layout::kIvshmemThere) != 0 ? word & kAddressBits : 0;
}

}  // namespace

IvshmemDoorbell::IvshmemDoorbell(std::shared_ptr<InterruptDevice> device, const std::string& peer,
                                 Words words, Poller& poller, std::function<void()> on_ring)
    : device_(std::move(device)),
      peer_(peer),
      words_(words),
      poller_(poller),
      on_ring_(std::move(on_ring)),
      vector_(device_->add_vector()) {
  watch();
}

// The word stays: the section may be another driver's by now. Whoever drives it next clears it (Core).
IvshmemDoorbell::~IvshmemDoorbell() { poller_.remove(watch_); }

// Bits above those that have a meaning: another version's word, or nonsense.
std::uint64_t IvshmemDoorbell::peer_word() const {
  const std::uint64_t word = Untrusted(*words_.peer).copy();
  return (word & ~(kAddressBits | layout::kIvshmemHeard)) == 0 ? word : 0;
}

bool IvshmemDoorbell::present() const {
  const std::uint64_t word = peer_word();
  return device_->number() && heard_at_ != 0 && heard_at_ == address_in(word) &&
         (word & layout::kIvshmemHeard) != 0 && !muted_;
}

int IvshmemDoorbell::ring() {
  const std::uint64_t address = address_in(peer_word());
  if (address == 0) return ENOTCONN;
  return device_->ring(static_cast<std::uint16_t>(address >> layout::kIvshmemNumberShift),
                       static_cast<std::uint16_t>(address & layout::kIvshmemVectorMask));
}

void IvshmemDoorbell::tick() {
  vain_ = 0;
  if (std::exchange(muted_, false)) watch();
  device_->tick();
  const std::uint64_t word = peer_word();
  if (heard_at_ != 0 && heard_at_ != address_in(word)) {
    spdlog::info("doorbell of partition '{}' is gone", peer_);
    heard_at_ = 0;
  }
  publish();
  if ((word & layout::kIvshmemHeard) == 0) ring();
}

// At each tick too: others can write over it.
void IvshmemDoorbell::publish() {
  const std::optional<std::uint16_t> number = device_->number();
  std::uint64_t word = 0;
  if (number) {
    word = layout::kIvshmemThere | std::uint64_t{*number} << layout::kIvshmemNumberShift | vector_;
    if (heard_at_ != 0) word |= layout::kIvshmemHeard;
  }
  words_.own->store(word, std::memory_order_relaxed);
}

void IvshmemDoorbell::watch() {
  if (watch_ != 0) return;
  watch_ = poller_.add(device_->rung(vector_), EPOLLIN, [this](auto) {
    ringing_ = true;
    if (heard_at_ == 0) drain();
  });
}

void IvshmemDoorbell::drain() {
  if (!std::exchange(ringing_, false)) return;
  std::uint64_t rings = 0;
  if (::read(device_->rung(vector_), &rings, sizeof rings) != sizeof rings) return;
  on_ring_();
  // Who has no address was not told this vector either: a ring of before it went, or somebody else's.
  if (const std::uint64_t address = address_in(peer_word()); heard_at_ == 0 && address != 0) {
    spdlog::info("doorbell of partition '{}' is there", peer_);
    heard_at_ = address;
    publish();
    ring();  // it may wait to hear us
  }
  if (++vain_ <= kVainMax) return;
  assert(watch_ != 0 && !muted_);
  muted_ = true;
  poller_.remove(std::exchange(watch_, 0));
}

}  // namespace shunt::driver
