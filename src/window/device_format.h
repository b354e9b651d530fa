// Makes and unmakes a window on a device: `shunt window create|destroy DEVICE`.
//
// Order of writing, each step whole in memory (and handed to the file's storage) before the next:
// magic 0; control blocks zeroed, identities; table and superblock; magic. So whoever is
// interrupted leaves no window. Arenas are not touched: an area is cleared when it is given out.
// What the head and the control blocks of a file need is allocated first, so that a full file
// system shows before anything is written.
//
// Refused without `force`: a window that is there already, and anything else that is not zero (a
// file: all its data; a device: its first 16 MiB and the first page of every 2 MiB). Refused
// always: a window in which a heart beats, or whose section a driver of this kernel holds.
//
// Errors: WindowError. Thread safety: none needed; of two makers at once on one kernel one is
// refused, makers on two kernels are not told apart.
#pragma once

#include <functional>
#include <string>

#include "window/backing.h"

namespace shunt::window {

struct DevicePlan {
  wire::PartitionTable table;  // plan_table() without a size
  std::uint64_t granule = layout::kGranuleDefault;
  std::uint64_t size = 0;  // 0: all of the device
};

// `after_step` is called behind each step that wrote something: for tests, which stop there.
void create_device_window(const std::string& spec, const DevicePlan& plan, bool force,
                          const std::function<void()>& after_step = {});

// Magic 0, then the head and all control blocks zero. A file's memory is given back.
void destroy_device_window(const std::string& spec);

}  // namespace shunt::window
