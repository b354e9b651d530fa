// Leases: does a program of this kernel still map an area? The kernel knows.
//
// Every descriptor of the device that a program gets is a fresh open file description with a shared record lock
// (F_OFD_SETLK) on one byte for each area that goes with it. A mapping keeps its description, and so the lock, until
// the last process that has the mapping unmaps it or ends, in whatever way: forks, threads and kill -9 included. The
// lock byte of partition p for the area at window offset o is (base + o + p): several drivers on one kernel do not see
// each other's programs. Locks are shared because one area can be leased again while a program holds on to an
// earlier lease of it; it then counts as leased until both are gone.
//
// Measured on Linux 6.1 and 6.18 for a file, an ivshmem BAR and device DAX: held while mapped with the descriptor
// closed, free after the last unmapping, also across fork.
//
// A program that holds its descriptor can drop the lock and go on reading, or lock what it has no lease of: it is one
// that the driver's policy trusts with the whole window (driver/strangers/policy.h). The provider closes it once it
// has mapped.
//
// Thread safety: none needed. Errors: an invalid UniqueFd with errno when descriptors or locks are short; leased()
// answers true when the kernel cannot be asked.
#pragma once

#include <cstdint>
#include <span>

#include "window/unique_fd.h"

namespace shunt::window {

// The device of a window as one partition's driver sees it.
struct LeasePlace {
  int device = -1;           // open for reading and writing; holds no leases itself
  std::uint64_t base = 0;    // the window's offset 0 in it
  std::uint32_t number = 0;  // of the own partition
};

// A descriptor to hand to one program, with the locks of the areas at `window_offsets` on it.
UniqueFd lease(const LeasePlace& place, std::span<const std::uint64_t> window_offsets);
bool leased(const LeasePlace& place, std::uint64_t window_offset);

}  // namespace shunt::window
