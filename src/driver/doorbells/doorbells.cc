#include "driver/doorbells/doorbells.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "driver/doorbells/ivshmem_doorbell.h"
#include "driver/doorbells/stream_doorbell.h"
#include "driver/doorbells/vfio_device.h"
#include "window/error.h"

namespace shunt::driver {
namespace {

constexpr std::string_view kVfio = "vfio:";

}  // namespace

DoorbellMaker::DoorbellMaker(Core& core, std::function<void()> on_ring)
    : core_(core), on_ring_(std::move(on_ring)) {
  for (const auto& [name, spec] : core_.options.doorbells) {
    const wire::Partition* partition = core_.table.by_name(name);
    const char* wrong = !core_.on_device() ? "a window in a directory has its own doorbells"
                        : partition == nullptr || partition == &core_.self
                            ? "the window has no other partition of that name"
                            : nullptr;
    if (wrong != nullptr) {
      throw window::WindowError(fmt::format("doorbell {}={}: {}", name, spec, wrong));
    }
  }
}

std::unique_ptr<Doorbell> DoorbellMaker::make(const std::string& spec, Peer& peer) {
  if (!spec.starts_with(kVfio)) {
    return std::make_unique<StreamDoorbell>(spec, peer.name(), core_.poller, on_ring_);
  }
  const std::string address = VfioDevice::require_address(spec.substr(kVfio.size()));
  std::shared_ptr<InterruptDevice>& device = devices_[address];
  if (!device) device = std::make_shared<VfioDevice>(address);
  const IvshmemDoorbell::Words words{
      &core_.peer_counters(peer).doorbell_address,
      &peer.section()->peers[core_.self.number - 1].doorbell_address};
  return std::make_unique<IvshmemDoorbell>(device, peer.name(), words, core_.poller, on_ring_);
}

void DoorbellMaker::open() {
  for (const auto& [address, device] : devices_) device->tick();
}

}  // namespace shunt::driver
