// Areas that are mapped alone, not as places of an arena (arenas/arena.h).
//
//   memory objects   made here, sealed, handed to the peer by descriptor (partitions of one kernel)
//   ranges           of the window's device; the own partition's driver chose and cleared them, and hands a descriptor
//                    of the device along. The driver is believed (it is the window's owner, or root); the area's
//                    header is checked all the same, and its bytes as always.
//
// A range is Location::length bytes from its offset on, both multiples of the window's granule (device DAX maps nothing
// else), and the area is its beginning. The mapping keeps the descriptor's lease: close the descriptor after mapping,
// and unmap all of `length`.
//
// Thread safety: pure but for the kernel. Errors: nullptr; nothing stays mapped then.
#pragma once

#include <cstdint>

#include "layout/area.h"
#include "wire/message.h"

namespace shunt::sockets {

// An own area in a memory object, mapped read-write. *fd is the descriptor to send along (opened read-only where
// possible), close it afterwards. nullptr: no memory or descriptors.
layout::Area* make_area(std::uint32_t* generation, int* fd);

// An own area in a range, read-write; the driver has initialised it for `generation`. `map_bytes`: what every range
// of the window is long.
layout::Area* map_own_range(int fd, const wire::Location& where, std::uint32_t generation,
                            std::uint64_t map_bytes);

// The peer's area, read-only: a memory object after checking seals, size, file system and header, or
// (kObjectWindow) a range.
// `at`: in place of reserve_memory()'s pages, which are gone if it fails; null: anywhere.
const layout::Area* map_peer(int fd, const wire::Location& where, std::uint32_t generation,
                             std::uint64_t map_bytes, const void* at = nullptr);
// The memory object alone.
const layout::Area* map_area(int fd, std::uint64_t offset, std::uint64_t length,
                             std::uint32_t generation, const void* at = nullptr);

// Whether `where` can be a range of the device behind `fd`. Of an ordinary file, and of a PCI BAR, the size is known.
bool sound_range(int fd, const wire::Location& where, std::uint64_t map_bytes);

// Addresses for `bytes`, readable and zero; aligned for device DAX when they are a multiple of its granule.
const void* reserve_memory(std::uint64_t bytes);
void unmap_area(const layout::Area* area, std::uint64_t bytes = layout::kAreaBytes);

}  // namespace shunt::sockets
