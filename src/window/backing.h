// Backing: where a window's memory is, and what the window says of itself.
//
//   /dev/shm/w     directory: a section file for each partition (partitions of one kernel)
//   a device       one mappable object that holds everything (device_object.h, layout/device.h)
//
// Superblock and partition table are copied into private memory when the window is opened, and
// checked as a whole; afterwards only the superblock's magic and generation are read again.
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
  // False: the window on the device was made again, or unmade, since it was opened.
  bool still_the_same() const;
};

// kReadOnly: to look at. A directory's files are opened for what each section is wanted for.
Backing open_backing(const std::string& spec, Access access = Access::kReadWrite);

}  // namespace shunt::window
