// IvshmemDoorbell: the interrupts of a device that both partitions have, between two kernels.
//
//   vfio:DDDD:BB:DD.F   an ivshmem-doorbell device bound to vfio-pci (vfio_device.h); several peers may have
//                       the same one
//
// Either side says in its own section, in the word for that peer (PeerCounters::doorbell_address), which
// number and vector ring it: nobody else is told this vector, so whatever rings it is that peer, or a liar,
// who gains nothing. And it says there whether the peer has been heard: an interrupt came since the peer's
// address is what it is.
//
// That two have opened a device does not mean that their interrupts arrive: devices of different servers,
// a server that is gone. So each side rings the other at each tick until the other says that it has heard;
// present() says that both have.
//
// Invariants: the peer's word is untrusted: one copy, of which 16 bits are a number and 16 bits a vector,
// whatever they are; a wrong one wakes somebody for nothing. A peer that rings kVainMax times without
// anything in its lane is not listened to, and not present, until the next tick.
//
// Thread safety: one thread. Errors: those of the device.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "driver/core/doorbell.h"
#include "driver/core/poller.h"
#include "driver/doorbells/interrupt_device.h"

namespace shunt::driver {

class IvshmemDoorbell : public Doorbell {
 public:
  static constexpr std::uint32_t kVainMax = 1000;

  // The words: in the own section for the peer, in the peer's for us. `on_ring` runs for each batch of
  // rings. `peer`: for the log.
  struct Words {
    std::atomic<std::uint64_t>* own;
    const std::atomic<std::uint64_t>* peer;
  };
  IvshmemDoorbell(std::shared_ptr<InterruptDevice> device, const std::string& peer, Words words,
                  Poller& poller, std::function<void()> on_ring);
  ~IvshmemDoorbell() override;

  bool present() const override;
  int ring() override;
  void tick() override;
  void drain() override;
  void had_news() override { vain_ = 0; }
  layout::DoorbellKind kind() const override { return layout::DoorbellKind::kIvshmem; }

 private:
  void watch();
  void publish();
  std::uint64_t peer_word() const;

  const std::shared_ptr<InterruptDevice> device_;
  const std::string peer_;
  const Words words_;
  Poller& poller_;
  const std::function<void()> on_ring_;
  const std::uint16_t vector_;
  Poller::Token watch_ = 0;
  std::uint64_t heard_at_ = 0;  // the peer's address when it was heard; 0: it was not
  bool muted_ = false;
  bool ringing_ = false;
  std::uint32_t vain_ = 0;
};

}  // namespace shunt::driver
