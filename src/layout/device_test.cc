// Pins the ABI of a window on a device, and its arithmetic at the edges.
#include "layout/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace shunt::layout {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(DeviceLayout, Superblock) {
  EXPECT_EQ(0, std::memcmp(&kDeviceMagic, "$SHUNTW1", 8));
  EXPECT_EQ(1u, kDeviceVersion);
  EXPECT_EQ(4096u, kDeviceTableOffset);
  EXPECT_EQ(2 * kMiB, kDeviceHeadBytes);
  EXPECT_EQ(4096u, sizeof(DeviceSuperblock));
  EXPECT_EQ(0u, offsetof(DeviceSuperblock, magic));
  EXPECT_EQ(8u, offsetof(DeviceSuperblock, version));
  EXPECT_EQ(12u, offsetof(DeviceSuperblock, header_bytes));
  EXPECT_EQ(16u, offsetof(DeviceSuperblock, generation));
  EXPECT_EQ(24u, offsetof(DeviceSuperblock, size));
  EXPECT_EQ(32u, offsetof(DeviceSuperblock, granule));
  EXPECT_EQ(40u, offsetof(DeviceSuperblock, section_bytes));
  EXPECT_EQ(48u, offsetof(DeviceSuperblock, partition_count));
  EXPECT_EQ(52u, offsetof(DeviceSuperblock, areas));
  EXPECT_EQ(56u, offsetof(DeviceSuperblock, area_stride));
  EXPECT_EQ(64u, offsetof(DeviceSuperblock, section_stride));
  EXPECT_EQ(72u, offsetof(DeviceSuperblock, checksum));
}

struct Row {
  std::uint64_t size, granule, section_bytes;
  std::uint32_t partitions, areas;
  std::uint64_t section_stride, arena_offset, area_stride;
};

TEST(DeviceLayout, GeometryTable) {
  const Row rows[] = {
      {54 * kMiB, kGranuleDefault, kMiB, 2, 4, 26 * kMiB, 2 * kMiB, 6 * kMiB},
      {256 * kMiB, kGranuleDefault, kMiB, 2, 20, 126 * kMiB, 2 * kMiB, 6 * kMiB},
      {1024 * kMiB, kGranuleDefault, kMiB, 2, 84, 510 * kMiB, 2 * kMiB, 6 * kMiB},
      {1024 * kMiB, kGranuleDefault, kMiB, 3, 56, 340 * kMiB, 2 * kMiB, 6 * kMiB},
      {1024 * kMiB, kGranuleMin, kMiB, 2, 127, 511 * kMiB, kMiB, kAreaBytes},
      {256 * kMiB, kGranuleMin, kMiB + 1, 2, 31, 127 * kMiB, kMiB + 4096, kAreaBytes},
  };
  for (const Row& row : rows) {
    const DeviceGeometry g =
        device_geometry(row.size, row.granule, row.section_bytes, row.partitions);
    EXPECT_EQ(row.areas, g.areas) << row.size;
    EXPECT_EQ(row.section_stride, g.section_stride);
    EXPECT_EQ(row.arena_offset, g.arena_offset);
    EXPECT_EQ(row.area_stride, g.area_stride);
  }
}

TEST(DeviceLayout, RangesAreAlignedApartAndInside) {
  for (const std::uint64_t granule : {kGranuleMin, std::uint64_t{65536}, kGranuleDefault}) {
    for (const std::uint32_t count : {1u, 2u, 3u, 7u, 64u}) {
      const std::uint64_t least = device_bytes_min(granule, kMiB, count);
      EXPECT_EQ(0u, device_geometry(least - 1, granule, kMiB, count).areas);
      for (const std::uint64_t size : {least, least + granule, 8 * least + 12345}) {
        const DeviceGeometry g = device_geometry(size, granule, kMiB, count);
        ASSERT_GE(g.areas, kAreasMin);
        std::uint64_t end = kDeviceHeadBytes;
        for (std::uint32_t number = 1; number <= count; ++number) {
          ASSERT_GE(g.section_offset(number), end);
          ASSERT_EQ(0u, (g.section_offset(number) - kDeviceHeadBytes) % granule);
          end = g.section_offset(number) + kMiB;
          for (std::uint32_t i = 0; i < g.areas; ++i) {
            ASSERT_GE(g.area_offset(number, i), end);
            end = g.area_offset(number, i) + g.area_stride;
            ASSERT_EQ(i, g.area_at(g.area_offset(number, i) - g.section_offset(number)));
          }
          ASSERT_LE(end, g.section_offset(number) + g.section_stride);
        }
        ASSERT_LE(end, size);
      }
    }
  }
}

TEST(DeviceLayout, NumbersNearTheLargestDoNotWrapAround) {
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  for (const std::uint64_t granule : {kGranuleMin, kGranuleDefault, 4 * kMiB, kGranuleMax}) {
    for (const std::uint64_t less :
         {std::uint64_t{0}, granule - 1, granule, kDeviceHeadBytes, kDeviceHeadBytes + granule}) {
      const DeviceGeometry g = device_geometry(kMost, granule, kMost - less, 1);
      EXPECT_EQ(0u, g.section_stride) << granule << " " << less;
      EXPECT_EQ(0u, g.areas);
    }
    const DeviceGeometry g = device_geometry(kMost, granule, kMost - 16 * kGranuleMax, 1);
    EXPECT_GE(g.areas, kAreasMin);
    EXPECT_GE(g.arena_offset, g.section_bytes);
  }
}

TEST(DeviceLayout, OnlyTheBeginningOfAnAreaIsOne) {
  const DeviceGeometry g = device_geometry(256 * kMiB, kGranuleDefault, kMiB, 2);
  EXPECT_EQ(0, g.area_at(g.arena_offset));
  EXPECT_EQ(19, g.area_at(g.arena_offset + 19 * g.area_stride));
  for (const std::uint64_t wrong :
       {std::uint64_t{0}, g.arena_offset - 1, g.arena_offset + 1, g.arena_offset + 2 * kMiB,
        g.arena_offset + 20 * g.area_stride, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    EXPECT_EQ(-1, g.area_at(wrong)) << wrong;
  }
  EXPECT_EQ(-1, DeviceGeometry{}.area_at(0)) << "of a window that does not fit";
}

TEST(DeviceLayout, NumbersWithoutSenseDoNotFit) {
  const std::uint64_t huge = ~std::uint64_t{0};
  EXPECT_EQ(0u, device_geometry(0, kGranuleDefault, kMiB, 2).areas);
  EXPECT_EQ(0u, device_geometry(kDeviceHeadBytes, kGranuleDefault, kMiB, 2).areas);
  EXPECT_EQ(0u, device_geometry(kMiB << 10, kGranuleDefault, kMiB, 0).areas);
  EXPECT_EQ(0u, device_geometry(kMiB << 20, kGranuleDefault, kMiB, wire::kMaxPartitions + 1).areas);
  EXPECT_EQ(0u, device_geometry(kMiB << 10, kGranuleDefault, 0, 2).areas);
  EXPECT_EQ(0u, device_geometry(kMiB << 10, kGranuleDefault, huge, 2).areas);
  EXPECT_EQ(0u, device_geometry(kMiB << 10, kGranuleDefault, kMiB << 10, 2).areas);
  for (const std::uint64_t granule : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2048},
                                      kGranuleDefault + 4096, 2 * kGranuleMax, huge}) {
    EXPECT_EQ(0u, device_geometry(kMiB << 10, granule, kMiB, 2).areas) << granule;
  }
  EXPECT_EQ(kAreasMax, device_geometry(huge, kGranuleMin, kMiB, 1).areas) << "no more than that";
}

}  // namespace
}  // namespace shunt::layout
