// Backing: where a window's memory is, and what the window says of itself.
//
//   /dev/shm/w     directory: a section file for each partition
//
// The partition table is copied into private memory when the window is opened, and checked as a whole;
// it is never looked at again. Everything above this file asks for a section (section_file.h) and gets
// a mapping.
//
// Thread safety: constant once opened. Errors: WindowError, with a text for a person.
#pragma once

#include <sys/types.h>

#include <string>

#include "wire/partition_table.h"

namespace shunt::window {

struct Backing {
  std::string spec;  // as given
  wire::PartitionTable table;
  uid_t owner = 0;  // whom providers and the other drivers trust as the window's administrator
  gid_t group = 0;
  std::string directory;  // of the sockets of the drivers, and of the table for providers
};

Backing open_backing(const std::string& spec);

}  // namespace shunt::window
