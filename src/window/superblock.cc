#include "window/superblock.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "layout/section.h"
#include "window/crc32c.h"
#include "window/error.h"

namespace shunt::window {
namespace {

// The superblock's fields without atomics: what a private copy is read as.
struct Fields {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t generation;
  std::uint64_t size;
  std::uint64_t granule;
  std::uint64_t section_bytes;
  std::uint32_t partition_count;
  std::uint32_t areas;
  std::uint64_t area_stride;
  std::uint64_t section_stride;
  std::uint32_t checksum;
};
constexpr std::size_t kAtChecksum = offsetof(layout::DeviceSuperblock, checksum);
static_assert(offsetof(Fields, checksum) == kAtChecksum);
static_assert(offsetof(Fields, generation) == offsetof(layout::DeviceSuperblock, generation));
static_assert(offsetof(Fields, partition_count) ==
              offsetof(layout::DeviceSuperblock, partition_count));

constexpr std::uint64_t kMagicWithoutVersion = (std::uint64_t{1} << 56) - 1;

std::uint32_t head_checksum(Fields fields, const std::uint8_t* table) {
  fields.magic = 0;
  std::uint8_t bytes[kAtChecksum];
  std::memcpy(bytes, &fields, sizeof bytes);
  return crc32c(bytes, sizeof bytes, crc32c(table, wire::kTableBytes));
}

[[noreturn]] void fail_version(const std::string& name) {
  throw WindowError(fmt::format(
      "the window on {} was made by another version of Shunt: use that version, or make "
      "it again with `shunt window create --force`",
      name));
}

[[noreturn]] void fail_damaged(const std::string& name, const std::string& why) {
  throw WindowError(fmt::format(
      "the window on {} is damaged: {}; make it again with `shunt window create --force`", name,
      why));
}

void require_magic(const Fields& f, const std::string& name) {
  if (f.magic == layout::kDeviceMagic) {
    if (f.version != layout::kDeviceVersion || f.header_bytes != sizeof(layout::DeviceSuperblock)) {
      fail_version(name);
    }
    return;
  }
  constexpr std::uint64_t kOurs = layout::kDeviceMagic & kMagicWithoutVersion;
  if ((f.magic & kMagicWithoutVersion) == kOurs) fail_version(name);
  throw WindowError(fmt::format(
      "{} holds no window: it is not formatted, or its making was cut short; make one with `shunt "
      "window create {} --partition ...`",
      name, name));
}

void decode_checked(const std::uint8_t* bytes, const Fields& f, const std::string& name,
                    wire::PartitionTable* table) {
  const auto decoded = wire::decode_table_into(bytes, wire::kTableBytes, table);
  if (decoded.error() == EPROTONOSUPPORT) fail_version(name);
  if (!decoded.ok()) {
    // The table's own count: behind magic, and the two versions.
    std::uint32_t count = 0;
    std::memcpy(&count, bytes + 12, sizeof count);
    if (count > wire::kMaxPartitions) {
      fail_damaged(name, fmt::format("its table names {} partitions, a window has at most {}",
                                     count, wire::kMaxPartitions));
    }
    fail_damaged(name, "it does not hold a valid partition table");
  }
  if (table->count != f.partition_count || table->generation != f.generation ||
      table->section_bytes != f.section_bytes) {
    fail_damaged(name, "its superblock and its partition table contradict each other");
  }
}

// Everything that was computed when the window was made, computed again.
layout::DeviceGeometry require_geometry(const Fields& f, const DeviceObject& object) {
  if (f.size > object.size) {
    throw WindowError(
        fmt::format("{} is truncated: the window on it was made with {} bytes, and {} are left",
                    object.name, f.size, object.size));
  }
  const layout::DeviceGeometry geometry =
      layout::device_geometry(f.size, f.granule, f.section_bytes, f.partition_count);
  if (geometry.section_stride == 0 ||
      layout::section_geometry(f.section_bytes, f.partition_count).lane_entries == 0) {
    fail_damaged(object.name,
                 fmt::format("its table names {} partitions, more than fit into its {} "
                             "bytes",
                             f.partition_count, f.size));
  }
  if (geometry.areas != f.areas || geometry.area_stride != f.area_stride ||
      geometry.section_stride != f.section_stride) {
    fail_damaged(object.name, "its sections and areas are not where they have to be");
  }
  if (f.granule % object.align != 0) {
    throw WindowError(
        fmt::format("{} can only be mapped in units of {} bytes, and the window was made with a "
                    "granule of {}: make it again with `shunt window create --force --granule {}`",
                    object.name, object.align, f.granule, object.align));
  }
  return geometry;
}

}  // namespace

void write_head(const wire::PartitionTable& table, const layout::DeviceGeometry& geometry,
                std::uint8_t* out) {
  std::memset(out, 0, kHeadCopyBytes);
  const wire::TableBytes bytes = wire::encode_table(table);
  std::memcpy(out + layout::kDeviceTableOffset, bytes.data(), bytes.size());
  Fields f{};
  f.version = layout::kDeviceVersion;
  f.header_bytes = sizeof(layout::DeviceSuperblock);
  f.generation = table.generation;
  f.size = geometry.size;
  f.granule = geometry.granule;
  f.section_bytes = geometry.section_bytes;
  f.partition_count = geometry.partition_count;
  f.areas = geometry.areas;
  f.area_stride = geometry.area_stride;
  f.section_stride = geometry.section_stride;
  f.checksum = head_checksum(f, bytes.data());
  std::memcpy(out, &f, kAtChecksum + sizeof f.checksum);
}

std::unique_ptr<DeviceHead> check_head(const std::uint8_t* copy, const DeviceObject& object) {
  Fields f;
  std::memcpy(&f, copy, sizeof f);
  require_magic(f, object.name);
  const std::uint8_t* table = copy + layout::kDeviceTableOffset;
  if (head_checksum(f, table) != f.checksum) {
    fail_damaged(object.name, "the checksum of its superblock and partition table is wrong");
  }
  auto head = std::make_unique<DeviceHead>();
  decode_checked(table, f, object.name, &head->table);
  head->geometry = require_geometry(f, object);
  return head;
}

std::unique_ptr<DeviceHead> read_head(const DeviceObject& object) {
  if (object.size < layout::kDeviceHeadBytes) {
    throw WindowError(
        fmt::format("{} is too small, or truncated: it has {} bytes, the head of a window alone "
                    "has {}",
                    object.name, object.size, layout::kDeviceHeadBytes));
  }
  const Mapping head = object.map(0, layout::kDeviceHeadBytes, Access::kReadOnly);
  std::vector<std::uint8_t> copy(kHeadCopyBytes);
  std::memcpy(copy.data(), head.data(), copy.size());
  return check_head(copy.data(), object);
}

}  // namespace shunt::window
