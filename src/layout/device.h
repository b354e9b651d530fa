// The ABI of a window on a device: one mappable object that holds everything.
//
//   +------------+-------+--------------------------+--------------------------+
//   | superblock | table | section 1                | section 2 ...            |
//   +------------+-------+---------+----------------+---------+----------------+
//   0            4 KiB   2 MiB     control  area area area ...
//
// A section's control block is a layout::Section (section.h) of table.section_bytes; behind it, from the
// next multiple of the granule on, lies the arena: ranges of `area_stride` bytes, each of which begins with
// a layout::Area. Areas belong to the section's partition; only its driver gives them out.
//
// Everything but {size, granule, section_bytes, partition count} is computed from those four by
// device_geometry(): what the superblock says of places must equal it. A reader copies superblock and table
// into private memory once, when it attaches, and afterwards only looks whether another window is there.
//
// Little-endian is not promised: all partitions run on one machine's processors, in its byte order.
// device_geometry() and DeviceGeometry::area_at() take any numbers: what does not make sense does not fit.
//
// Invariants: `magic` is stored last when a window is made and cleared first when it is unmade or made
// again, so a half-made window is no window. No behaviour lives here.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "layout/area.h"
#include "wire/partition_table.h"

namespace shunt::layout {

inline constexpr std::uint64_t kDeviceMagic = 0x3157544e55485324;  // "$SHUNTW1" in memory
inline constexpr std::uint32_t kDeviceVersion = 1;
inline constexpr std::uint64_t kDeviceTableOffset = 4096;
inline constexpr std::uint64_t kDeviceHeadBytes = std::uint64_t{2}
                                                  << 20;  // superblock, table, room
// Offsets and lengths of every mapping are multiples of this: what device DAX and huge pages ask for.
inline constexpr std::uint64_t kGranuleDefault = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kGranuleMin =
    4096;  // PCI BARs and ordinary files: --granule 4k packs tighter
inline constexpr std::uint64_t kGranuleMax = std::uint64_t{1} << 30;
inline constexpr std::uint32_t kAreasMin = 4;  // of a section; less is refused
inline constexpr std::uint32_t kAreasMax = 65536;
static_assert(kDeviceTableOffset + wire::kTableBytes <= kDeviceHeadBytes);

struct DeviceSuperblock {            // 4096 bytes at offset 0
  std::atomic<std::uint64_t> magic;  // kDeviceMagic; 0: no window, or being made
  std::uint32_t version;             // kDeviceVersion
  std::uint32_t header_bytes;        // sizeof(DeviceSuperblock)
  std::atomic<std::uint64_t>
      generation;      // random; another in a head that is whole, or a head of zeros: drivers leave
  std::uint64_t size;  // bytes of the window, at most those of the object
  std::uint64_t granule;
  std::uint64_t section_bytes;  // of a control block; equal to the table's
  std::uint32_t partition_count;
  std::uint32_t areas;           // of each section; checked against device_geometry()
  std::uint64_t area_stride;     // likewise
  std::uint64_t section_stride;  // likewise
  std::uint32_t checksum;        // CRC-32C of the table, then of the 72 bytes above, magic 0
  std::uint8_t reserved[4096 - 76];
};
static_assert(sizeof(DeviceSuperblock) == 4096);
static_assert(offsetof(DeviceSuperblock, generation) == 16);
static_assert(offsetof(DeviceSuperblock, size) == 24);
static_assert(offsetof(DeviceSuperblock, partition_count) == 48);
static_assert(offsetof(DeviceSuperblock, checksum) == 72);

struct DeviceGeometry {
  std::uint64_t size = 0;
  std::uint64_t granule = 0;
  std::uint64_t section_bytes = 0;
  std::uint32_t partition_count = 0;
  std::uint64_t section_stride = 0;  // 0: does not fit
  std::uint64_t arena_offset = 0;    // from the beginning of a section
  std::uint64_t area_stride = 0;     // what a program maps for one area
  std::uint32_t areas = 0;           // of each section

  constexpr std::uint64_t section_offset(std::uint32_t number) const {  // 1 ..
    return kDeviceHeadBytes + (number - 1) * section_stride;
  }
  constexpr std::uint64_t area_offset(std::uint32_t number, std::uint32_t index) const {
    return section_offset(number) + arena_offset + index * area_stride;
  }
  // Index of the area at `offset` from the beginning of a section; -1: there is none.
  constexpr std::int64_t area_at(std::uint64_t offset) const {
    if (areas == 0 || offset < arena_offset || (offset - arena_offset) % area_stride != 0)
      return -1;
    const std::uint64_t index = (offset - arena_offset) / area_stride;
    return index < areas ? static_cast<std::int64_t>(index) : -1;
  }
};

constexpr std::uint64_t round_up_to(std::uint64_t bytes, std::uint64_t granule) {
  return (bytes + granule - 1) / granule * granule;
}

constexpr DeviceGeometry device_geometry(std::uint64_t size, std::uint64_t granule,
                                         std::uint64_t section_bytes, std::uint32_t count) {
  DeviceGeometry g;
  g.size = size;
  g.granule = granule;
  g.section_bytes = section_bytes;
  g.partition_count = count;
  const bool granule_ok =
      granule >= kGranuleMin && granule <= kGranuleMax && (granule & (granule - 1)) == 0;
  if (!granule_ok || count == 0 || count > wire::kMaxPartitions) return g;
  if (size <= kDeviceHeadBytes || section_bytes == 0 || section_bytes > size) return g;
  const std::uint64_t stride = (size - kDeviceHeadBytes) / count / granule * granule;
  // Before it is rounded up, and the sum taken apart: numbers near 2^64 must not wrap around to small ones.
  if (section_bytes > stride) return g;
  g.arena_offset = round_up_to(section_bytes, granule);
  g.area_stride = round_up_to(kAreaBytes, granule);
  if (stride - g.arena_offset < kAreasMin * g.area_stride) return g;
  g.section_stride = stride;
  const std::uint64_t areas = (stride - g.arena_offset) / g.area_stride;
  g.areas = static_cast<std::uint32_t>(areas < kAreasMax ? areas : kAreasMax);
  return g;
}

constexpr std::uint64_t device_bytes_min(std::uint64_t granule, std::uint64_t section_bytes,
                                         std::uint32_t count) {
  return kDeviceHeadBytes + count * (round_up_to(section_bytes, granule) +
                                     kAreasMin * round_up_to(kAreaBytes, granule));
}

static_assert(device_bytes_min(kGranuleDefault, 1 << 20, 2) == std::uint64_t{54} << 20);
static_assert(device_geometry(std::uint64_t{1} << 30, kGranuleDefault, 1 << 20, 2).areas == 84);
static_assert(device_geometry(std::uint64_t{53} << 20, kGranuleDefault, 1 << 20, 2).areas == 0);

}  // namespace shunt::layout
