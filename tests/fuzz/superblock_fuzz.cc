// superblock: the head of a window on a device, which every partition may write (window/superblock.h)
//
// Untrusted: superblock and table, and how large the device is. Asserted: check_head() reads nothing but its copy;
// it throws a WindowError, or what it returns is consistent: the table passes check(), sections and areas are where
// device_geometry() puts them, do not overlap and lie inside the device, and write_head() makes the same head of it.
// device_geometry() takes any four numbers.
//
// Noise would end at the checksum: most inputs have magic, computed fields or the checksum put right (Repairs).
#include <cstddef>
#include <cstring>
#include <memory>

#include "fuzz/harness.h"
#include "layout/section.h"
#include "window/crc32c.h"
#include "window/error.h"
#include "window/superblock.h"

namespace shunt::fuzz {
namespace {

using layout::DeviceGeometry;
using layout::DeviceSuperblock;

Mark refused("refused behind the checksum");
Mark accepted("head accepted");
Mark fits("geometry that fits");

// Bits of the input's first byte: what of the head is put right after the input was laid over it.
enum Repairs : std::uint8_t { kMagic = 1, kFromTable = 2, kComputed = 4, kChecksum = 8 };

constexpr std::size_t kFieldsEnd = offsetof(DeviceSuperblock, checksum) + sizeof(std::uint32_t);

template <typename T>
void put(Bytes& head, std::size_t at, T value) {
  std::memcpy(head.data() + at, &value, sizeof value);
}
template <typename T>
T get(const Bytes& head, std::size_t at) {
  T value;
  std::memcpy(&value, head.data() + at, sizeof value);
  return value;
}

// Whatever size: 0 or everything has its place.
void check_geometry(const DeviceGeometry& g) {
  if (g.section_stride == 0) return require(g.areas == 0, "what does not fit has no areas");
  fits.reached();
  require(g.partition_count >= 1 && g.partition_count <= wire::kMaxPartitions, "some partitions");
  require(g.areas >= layout::kAreasMin && g.areas <= layout::kAreasMax, "some areas");
  require(g.arena_offset >= g.section_bytes, "areas begin behind the control block");
  require(g.area_stride >= layout::kAreaBytes, "areas do not overlap");
  require(g.arena_offset % g.granule == 0 && g.area_stride % g.granule == 0 &&
              g.section_stride % g.granule == 0,
          "everything can be mapped");
  require(g.areas <= (g.section_stride - g.arena_offset) / g.area_stride, "areas are in sections");
  require(g.section_stride <= (g.size - layout::kDeviceHeadBytes) / g.partition_count,
          "sections are in the device");
  for (const std::uint32_t index : {0u, g.areas - 1}) {
    const std::uint64_t offset = g.arena_offset + index * g.area_stride;
    require(g.area_at(offset) == static_cast<std::int64_t>(index), "an area is found");
    require(g.area_at(offset + 1) == -1, "what is inside an area is none");
  }
  require(g.area_at(g.arena_offset + g.areas * g.area_stride) == -1, "no area behind the last");
}

// One byte of the superblock, changed behind the computed fields and in front of the checksum.
struct Twist {
  std::size_t at;
  std::uint8_t bits;
};

void repair(Bytes& head, std::uint8_t repairs, Twist twist) {
  if ((repairs & kMagic) != 0) {
    put(head, offsetof(DeviceSuperblock, magic), layout::kDeviceMagic);
    put(head, offsetof(DeviceSuperblock, version), layout::kDeviceVersion);
    put<std::uint32_t>(head, offsetof(DeviceSuperblock, header_bytes), sizeof(DeviceSuperblock));
  }
  constexpr std::size_t kTable = layout::kDeviceTableOffset;
  if ((repairs & kFromTable) != 0) {  // count, generation, section_bytes: offsets of the table
    std::memcpy(head.data() + offsetof(DeviceSuperblock, partition_count),
                head.data() + kTable + 12, 4);
    std::memcpy(head.data() + offsetof(DeviceSuperblock, generation), head.data() + kTable + 16, 8);
    std::memcpy(head.data() + offsetof(DeviceSuperblock, section_bytes), head.data() + kTable + 24,
                8);
  }
  if ((repairs & kComputed) != 0) {
    const DeviceGeometry g = layout::device_geometry(
        get<std::uint64_t>(head, offsetof(DeviceSuperblock, size)),
        get<std::uint64_t>(head, offsetof(DeviceSuperblock, granule)),
        get<std::uint64_t>(head, offsetof(DeviceSuperblock, section_bytes)),
        get<std::uint32_t>(head, offsetof(DeviceSuperblock, partition_count)));
    put(head, offsetof(DeviceSuperblock, areas), g.areas);
    put(head, offsetof(DeviceSuperblock, area_stride), g.area_stride);
    put(head, offsetof(DeviceSuperblock, section_stride), g.section_stride);
  }
  head[twist.at] ^= twist.bits;
  if ((repairs & kChecksum) != 0) {
    Bytes summed(head.begin(), head.begin() + offsetof(DeviceSuperblock, checksum));
    put<std::uint64_t>(summed, 0, 0);
    const std::uint32_t table = window::crc32c(head.data() + kTable, wire::kTableBytes);
    put(head, offsetof(DeviceSuperblock, checksum),
        window::crc32c(summed.data(), summed.size(), table));
  }
}

void check_accepted(const window::DeviceHead& found, const Bytes& head,
                    const window::DeviceObject& object) {
  accepted.reached();
  const DeviceGeometry& g = found.geometry;
  require(wire::check(found.table).fault == wire::TableFault::kNone, "the table passes check()");
  require(found.table.count == g.partition_count, "one count");
  require(g.section_stride != 0 && g.size <= object.size, "the window fits into its device");
  require(g.granule % object.align == 0, "the device can be mapped so");
  const auto section = layout::section_geometry(g.section_bytes, g.partition_count);
  require(section.lane_entries >= layout::kLaneEntriesMin, "there are lanes");
  require(section.buffers_end() <= g.section_bytes, "queues are in the control block");
  require(g.area_offset(g.partition_count, g.areas - 1) + g.area_stride <= object.size,
          "the last area is in the device");
  check_geometry(g);
  Bytes again(window::kHeadCopyBytes);
  window::write_head(found.table, g, again.data());
  put(again, offsetof(DeviceSuperblock, magic), layout::kDeviceMagic);
  require(std::memcmp(again.data(), head.data(), kFieldsEnd) == 0, "one window, one superblock");
  require(std::memcmp(again.data() + layout::kDeviceTableOffset,
                      head.data() + layout::kDeviceTableOffset, wire::kTableBytes) == 0,
          "one window, one table");
}

void check_head(Input& in, std::uint8_t repairs) {
  window::DeviceObject object;
  object.name = "/w";
  object.size = in.number();
  object.align = in.flip() ? 4096 : std::uint64_t{2} << 20;
  const Twist twist{in.below(offsetof(DeviceSuperblock, checksum)), in.take<std::uint8_t>()};
  Bytes head(window::kHeadCopyBytes);
  in.overlay(head.data(), kFieldsEnd);
  in.overlay(head.data() + layout::kDeviceTableOffset, wire::kTableBytes);
  repair(head, repairs, twist);
  try {
    const auto found = window::check_head(head.data(), object);
    check_accepted(*found, head, object);
  } catch (const window::WindowError& error) {
    require(std::strlen(error.what()) > 0, "a reason is told");
    if ((repairs & kMagic) != 0 && (repairs & kChecksum) != 0) refused.reached();
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  const auto table = std::make_unique<wire::PartitionTable>();
  table->generation = 0x0123456789abcdef;
  table->section_bytes = 1 << 20;
  for (const std::uint8_t name : {'a', 'b'}) {
    wire::Partition& p = table->partitions[table->count++];
    p.number = table->count;
    p.name_bytes[0] = static_cast<char>(name);
    p.address_count = 1;
    p.addresses[0].family = AF_INET;
    p.addresses[0].address = {10, 77, 0, name};
    const std::uint64_t size =
        layout::device_bytes_min(layout::kGranuleDefault, table->section_bytes, table->count);
    Bytes head(window::kHeadCopyBytes);
    window::write_head(
        *table,
        layout::device_geometry(size, layout::kGranuleDefault, table->section_bytes, table->count),
        head.data());
    put(head, 0, layout::kDeviceMagic);
    const auto add = [&](std::uint8_t repairs, Twist twist) {
      Bytes seed{repairs, 0x82};  // a size of 8 bytes
      for (int i = 0; i < 8; ++i) seed.push_back(static_cast<std::uint8_t>(size >> 8 * i));
      // A granule of 2 MiB.
      seed.insert(seed.end(), {0, static_cast<std::uint8_t>(twist.at), twist.bits});
      seed.insert(seed.end(), head.begin(), head.begin() + kFieldsEnd);
      const auto begin = head.begin() + layout::kDeviceTableOffset;
      seed.insert(seed.end(), begin,
                  begin + wire::kTableHeaderBytes + table->count * wire::kPartitionBytes);
      all.push_back(seed);
    };
    add(0, {0, 0});
    add(15, {0, 0});
    for (const std::size_t field : {8, 12, 16, 24, 32, 40, 48, 52, 56, 64}) add(15, {field, 1});
  }
  all.push_back({16, 0x84, 0, 0x83, 12, 0x84, 0, 1});    // numbers that could wrap around
  all.push_back({16, 0x83, 30, 0x83, 12, 0x83, 20, 2});  // 1 GiB, 4 KiB, 1 MiB, two partitions
  return all;
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  Input in(data, size);
  const auto mode = in.take<std::uint8_t>();
  if (mode < 16) {
    check_head(in, mode);
    return 0;
  }
  const std::uint64_t bytes = in.number();
  const std::uint64_t granule = in.number();
  const std::uint64_t section_bytes = in.number();
  const auto count = static_cast<std::uint32_t>(in.number());
  check_geometry(shunt::layout::device_geometry(bytes, granule, section_bytes, count));
  return 0;
}
