// The runtime directory of a window on a device: what its drivers leave on their kernel for
// programs.
//
//   table         the partition table with kTableAreasFromDriver
//   device        the device's canonical name
//   NAME.driver   the driver's socket, and NAME.peer, as in a directory
//
// A program gets this directory as its window: it needs neither the device nor any right to open
// it. Nothing in it is shared with other kernels. Several drivers on one kernel write the same
// table.
//
// Thread safety: none needed. Errors: WindowError, where said.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "window/backing.h"

namespace shunt::window {

// PLACE/<id>. PLACE is $SHUNT_RUNTIME_DIR, else /run/shunt for root and for whoever finds the
// directory there, else $XDG_RUNTIME_DIR/shunt. <id>: the end of the canonical name and a hash of
// all of it.
std::string runtime_directory(const std::string& spec);

// Makes it (0755, the caller's) and writes `table` and `device` by rename, so that a reader finds
// whole ones. WindowError: it cannot be made, its path is too long, or it is somebody else's.
void write_runtime_directory(const Backing& backing);

// Takes away what drivers left there, as far as possible; for a window that was destroyed.
void remove_runtime_directory(const Backing& backing);

struct NamedDevice {
  std::string spec;
  uid_t owner = 0;
  gid_t group = 0;
};
// What `dir` names if it is a runtime directory. WindowError: it is, and not to be trusted.
std::optional<NamedDevice> device_of_runtime_directory(const std::string& dir);

}  // namespace shunt::window
