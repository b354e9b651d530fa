// Backing: where a window's memory is, and what the window says of itself.
//
//   /dev/shm/w     directory: a section file for each partition (partitions of one kernel)
//   a device       one mappable object that holds everything (device_object.h, layout/device.h)
//
// Superblock and partition table are copied into private memory when the window is opened, and
// checked as a whole; afterwards they are only looked at to see whether another window has taken their place.
// Everything above this file asks for a section (section_file.h) and gets a mapping; what differs
// between the kinds hangs on `device`.
//
// The directory that a driver leaves for a window on a device (runtime_directory.h) names that
// window too.
//
// Thread safety: constant once opened. Errors: WindowError, with a text for a person.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "layout/device.h"
#include "window/device_object.h"
#include "wire/partition_table.h"

namespace shunt::window {

enum class HeadState {
  kSame,
  kDamaged,  // or just being made again: look later
  kGone,     // the window was made again, or unmade
};

struct Backing {
  std::string spec;  // canonical where it names a device; a directory as given
  wire::PartitionTable table;
  // Whom providers and the other drivers trust as the window's administrator: the directory's
  // owner; on a device, that of the runtime directory, which is whoever opened it unless it was
  // there.
  uid_t owner = 0;
  gid_t group = 0;
  std::string directory;  // of the sockets of the drivers, and of the table for providers

  std::optional<DeviceObject> device;  // none: a directory
  layout::DeviceGeometry geometry;     // of the device
  Mapping head;                        // of the device, read-only

  BackingKind kind() const { return device ? device->kind : BackingKind::kDirectory; }
  // What has become of the head of the device since the window was opened. Only what making and unmaking leave
  // behind counts as such, a whole head of another generation or nothing at all: everybody can write there, and
  // words that somebody scribbles must not end the drivers of all partitions.
  HeadState look_at_head() const;
};

// kReadOnly: to look at. A directory's files are opened for what each section is wanted for.
Backing open_backing(const std::string& spec, Access access = Access::kReadWrite);

}  // namespace shunt::window
