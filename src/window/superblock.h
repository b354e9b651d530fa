// The head of a window on a device: superblock and partition table, written and checked.
//
// check_head() accepts any bytes, which must be a private copy. What it returns is consistent: the
// table passes wire::check, the geometry is that of device_geometry() and fits into the object.
//
// Thread safety: pure. Errors: WindowError, one text for each way of being no usable window.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "layout/device.h"
#include "window/device_object.h"
#include "wire/partition_table.h"

namespace shunt::window {

inline constexpr std::uint64_t kHeadCopyBytes = layout::kDeviceTableOffset + wire::kTableBytes;

struct DeviceHead {
  wire::PartitionTable table;
  layout::DeviceGeometry geometry;
};

// Superblock (its magic still 0) and table, kHeadCopyBytes of them into `out`.
void write_head(const wire::PartitionTable& table, const layout::DeviceGeometry& geometry,
                std::uint8_t* out);

// Of `object` only name, size and align are looked at.
std::unique_ptr<DeviceHead> check_head(const std::uint8_t* copy, const DeviceObject& object);

// The mapped head of `object`, copied once and checked; too small an object is refused.
std::unique_ptr<DeviceHead> read_head(const DeviceObject& object);

}  // namespace shunt::window
