// The head of a window on a device: its bytes, and each way of not being one.
#include "window/superblock.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "window/crc32c.h"
#include "window/table_file.h"
#include "window/window_test_util.h"
#include "wire/version.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class SuperblockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    table = plan_table({parse_partition("a=10.77.0.1"), parse_partition("b=10.77.0.2")}, {});
    table.generation = 0x0123456789abcdef;
    object.name = "/w";
    object.size = 54 * kMiB;
    object.align = 2 * kMiB;
    geometry = layout::device_geometry(object.size, layout::kGranuleDefault, kMiB, 2);
    make();
  }
  void make() {
    bytes.assign(kHeadCopyBytes, 0xaa);
    write_head(table, geometry, bytes.data());
    put(0, layout::kDeviceMagic);
  }
  template <typename T>
  void put(std::size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  template <typename T>
  T get(std::size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  // As somebody would who writes nonsense on purpose.
  void sign() {
    std::vector<std::uint8_t> head(bytes.begin(), bytes.begin() + 72);
    std::memset(head.data(), 0, 8);
    put<std::uint32_t>(
        72, crc32c(head.data(), head.size(), crc32c(bytes.data() + 4096, wire::kTableBytes)));
  }
  std::string error() {
    return error_of([&] { check_head(bytes.data(), object); });
  }

  wire::PartitionTable table;
  layout::DeviceGeometry geometry;
  DeviceObject object;
  std::vector<std::uint8_t> bytes;
};

// Another version of Shunt, or another compiler, must find these bytes.
TEST_F(SuperblockTest, Golden) {
  EXPECT_EQ(0, std::memcmp(bytes.data(), "$SHUNTW1", 8));
  EXPECT_EQ(1u, get<std::uint32_t>(8));
  EXPECT_EQ(4096u, get<std::uint32_t>(12));
  EXPECT_EQ(0x0123456789abcdefu, get<std::uint64_t>(16));
  EXPECT_EQ(54 * kMiB, get<std::uint64_t>(24));
  EXPECT_EQ(2 * kMiB, get<std::uint64_t>(32));
  EXPECT_EQ(kMiB, get<std::uint64_t>(40));
  EXPECT_EQ(2u, get<std::uint32_t>(48));
  EXPECT_EQ(4u, get<std::uint32_t>(52));
  EXPECT_EQ(6 * kMiB, get<std::uint64_t>(56));
  EXPECT_EQ(26 * kMiB, get<std::uint64_t>(64));
  const std::uint32_t checksum = get<std::uint32_t>(72);
  sign();
  EXPECT_EQ(get<std::uint32_t>(72), checksum);
  for (std::size_t i = 76; i < 4096; ++i) ASSERT_EQ(0, bytes[i]) << i;
  EXPECT_EQ(0,
            std::memcmp(bytes.data() + 4096, wire::encode_table(table).data(), wire::kTableBytes));
}

TEST_F(SuperblockTest, WhatWasWrittenIsRead) {
  const auto head = check_head(bytes.data(), object);
  EXPECT_EQ(table.generation, head->table.generation);
  EXPECT_EQ("b", head->table.partitions[1].name());
  EXPECT_EQ(geometry.section_offset(2), head->geometry.section_offset(2));
  EXPECT_EQ(4u, head->geometry.areas);
  object.size += kMiB;  // a window need not fill its device
  EXPECT_EQ("no error", error());
}

TEST_F(SuperblockTest, NoWindow) {
  put<std::uint64_t>(0, 0);
  EXPECT_SAYS(error(), "/w holds no window: it is not formatted");
  std::memset(bytes.data(), 0x5a, bytes.size());
  EXPECT_SAYS(error(), "not formatted");
}

TEST_F(SuperblockTest, OtherVersions) {
  bytes[7] = '2';
  EXPECT_SAYS(error(), "another version");
  make();
  put<std::uint32_t>(8, 2);
  EXPECT_SAYS(error(), "another version");
  make();
  put<std::uint16_t>(4096 + 8, wire::kWireVersion + 1);
  sign();
  EXPECT_SAYS(error(), "another version");
}

TEST_F(SuperblockTest, EveryByteCounts) {
  for (std::size_t i = 8; i < bytes.size(); i += i < 80 ? 1 : 97) {
    if (i >= 76 && i < 4096) continue;
    bytes[i] ^= 0x10;
    EXPECT_NE("no error", error()) << i;
    bytes[i] ^= 0x10;
  }
  EXPECT_EQ("no error", error());
  bytes[40] ^= 1;
  EXPECT_SAYS(error(), "checksum");
}

TEST_F(SuperblockTest, Truncated) {
  object.size -= 4096;
  EXPECT_SAYS(error(),
              "/w is truncated: the window on it was made with 56623104 bytes, and 56619008");
}

TEST_F(SuperblockTest, MorePartitionsThanFit) {
  put<std::uint32_t>(4096 + 12, 65);
  sign();
  EXPECT_SAYS(error(), "names 65 partitions, a window has at most 64");
  table = plan_table({parse_partition("a=10.77.0.1"), parse_partition("b=10.77.0.2"),
                      parse_partition("c=10.77.0.3")},
                     {});
  table.generation = 0x0123456789abcdef;
  make();
  sign();
  EXPECT_SAYS(error(), "contradict");
  put<std::uint32_t>(48, 3);
  sign();
  EXPECT_SAYS(error(), "names 3 partitions, more than fit into its 56623104 bytes");
}

TEST_F(SuperblockTest, PlacesThatCannotBe) {
  const auto refused = [&](std::size_t at, auto value) {
    make();
    put(at, value);
    sign();
    EXPECT_SAYS(error(), "damaged") << at;
  };
  refused(32, std::uint64_t{0});
  refused(32, std::uint64_t{3});
  refused(32, ~std::uint64_t{0});
  refused(24, std::uint64_t{0});
  refused(40, ~std::uint64_t{0});
  refused(48, std::uint32_t{0});
  refused(48, ~std::uint32_t{0});
  refused(52, std::uint32_t{5});
  refused(56, std::uint64_t{4096});
  refused(64, std::uint64_t{4096});
  refused(16, std::uint64_t{7});
  make();
  put<std::uint32_t>(4096 + 12, 0);
  sign();
  EXPECT_SAYS(error(), "valid partition table");
}

TEST_F(SuperblockTest, GranuleBelowTheDevicesUnit) {
  geometry = layout::device_geometry(object.size, 4096, kMiB, 2);
  make();
  EXPECT_SAYS(error(), "units of 2097152 bytes");
  object.align = 4096;
  EXPECT_EQ("no error", error());
}

}  // namespace
}  // namespace shunt::window
