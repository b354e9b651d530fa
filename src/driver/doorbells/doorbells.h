// DoorbellMaker: gives the other partitions their doorbells, as Options::doorbells says.
//
// Thread safety: one thread. Errors: WindowError for doorbells that can never work.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "driver/core/core.h"
#include "driver/doorbells/interrupt_device.h"

namespace shunt::driver {

class DoorbellMaker {
 public:
  // Throws for a doorbell to nobody. `on_ring` runs for each batch of rings.
  DoorbellMaker(Core& core, std::function<void()> on_ring);

  // `spec`: stream_doorbell.h, ivshmem_doorbell.h.
  std::unique_ptr<Doorbell> make(const std::string& spec, Peer& peer);
  // Once all are made. From then on the doorbells open by themselves what is not there yet.
  void open();

 private:
  Core& core_;
  std::function<void()> on_ring_;
  std::map<std::string, std::shared_ptr<InterruptDevice>> devices_;  // by address
};

}  // namespace shunt::driver
