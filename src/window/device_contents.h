// Does a device or file hold anything yet? Asked before a window is made on it.
//
// A file: all its data, holes are not read. A device: its first 16 MiB and the first page of every
// 2 MiB; reading all of a large one would take long, and would make the host allocate all of it.
//
// Thread safety: pure but for reading. Errors: WindowError when it cannot be read.
#pragma once

#include <cstdint>
#include <optional>

#include "window/device_object.h"

namespace shunt::window {

// Near which offset there is a byte that is not zero.
std::optional<std::uint64_t> something_at(const DeviceObject& object);

}  // namespace shunt::window
