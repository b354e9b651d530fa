// VfioDevice: an ivshmem-doorbell device of this guest, opened through vfio-pci: its registers, and its MSI-X
// vectors as eventfds.
//
// Only the registers are used, by reading and writing: a BAR that vfio-pci had mapped could not be mapped
// through sysfs any more, and BAR 2 normally is the window. No memory is given to the device, so nothing is
// mapped for its DMA; it must be bus master all the same, or its interrupts are dropped.
//
// Invariants: opened at most once, and then for good. What may come right later (no such device, not bound
// to vfio-pci, held by another program, modules missing) is tried again after ever longer pauses up to
// kPauseMax, and each new reason logged once.
//
// Thread safety: one thread. Errors: the constructor throws WindowError for an address that is none; the
// first tick() for a device that can never do (no ivshmem-doorbell, too few vectors, no IOMMU).
#pragma once

#include <cassert>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "driver/doorbells/interrupt_device.h"
#include "window/unique_fd.h"

namespace shunt::driver {

// Where the kernel shows its devices; elsewhere in tests.
struct DevicePlaces {
  std::string sys = "/sys";
  std::string dev = "/dev";
};

class VfioDevice : public InterruptDevice {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPauseMax{1000};

  // As sysfs writes it.
  static std::string require_address(const std::string& text);
  explicit VfioDevice(const std::string& address, DevicePlaces places = {});

  std::uint16_t add_vector() override;
  int rung(std::uint16_t vector) const override {
    assert(vector < vectors_.size());
    return vectors_[vector].get();
  }
  void tick() override;
  std::optional<std::uint16_t> number() const override { return number_; }
  int ring(std::uint16_t number, std::uint16_t vector) override;

 private:
  std::string check_sysfs() const;  // the IOMMU group
  void open();
  void open_group(const std::string& group);
  void check_vectors() const;
  std::uint16_t read_number() const;
  void take_interrupts();
  std::uint64_t region(std::uint32_t index) const;  // its offset

  const std::string address_;
  const DevicePlaces places_;
  std::vector<window::UniqueFd> vectors_;
  window::UniqueFd container_;
  window::UniqueFd group_;
  window::UniqueFd device_;
  std::uint64_t registers_ = 0;
  std::optional<std::uint16_t> number_;
  bool tried_ = false;
  std::chrono::milliseconds pause_{100};
  Clock::time_point next_try_{};
  std::string logged_;
};

}  // namespace shunt::driver
