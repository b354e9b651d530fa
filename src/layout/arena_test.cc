// Pins the ABI of arenas: a change here needs a new wire::kLayoutVersion.
#include "layout/arena.h"

#include <gtest/gtest.h>

#include "wire/version.h"

namespace shunt::layout {
namespace {

TEST(ArenaLayout, OffsetsOfTheHeader) {
  EXPECT_EQ(wire::kLayoutVersion, 4);
  EXPECT_EQ(0u, offsetof(ArenaHeader, magic));
  EXPECT_EQ(4u, offsetof(ArenaHeader, version));
  EXPECT_EQ(6u, offsetof(ArenaHeader, header_bytes));
  EXPECT_EQ(8u, offsetof(ArenaHeader, places));
  EXPECT_EQ(12u, offsetof(ArenaHeader, control_bytes));
  EXPECT_EQ(16u, offsetof(ArenaHeader, arena_bytes));
  EXPECT_EQ(24u, offsetof(ArenaHeader, id));
  EXPECT_EQ(128u, offsetof(ArenaHeader, known));
  EXPECT_EQ(256u, offsetof(ArenaHeader, retired));
  EXPECT_EQ(512u, sizeof(ArenaHeader));
  EXPECT_EQ(32u, offsetof(AreaHeader, answers));
}

TEST(ArenaLayout, NothingOverlapsAndAllIsCovered) {
  for (std::uint32_t places = 1; places <= kPlacesMax; ++places) {
    const ArenaShape shape{places};
    ASSERT_TRUE(shape.sound());
    ASSERT_GE(shape.controls_offset(), sizeof(ArenaHeader) + 4 * places);
    ASSERT_EQ(0u, shape.controls_offset() % alignof(Area));
    ASSERT_GE(shape.first_offset(0), shape.control_offset(places));
    ASSERT_EQ(0u, shape.first_offset(0) % 4096);
    ASSERT_EQ(shape.rest_offset(0), shape.first_offset(places));
    ASSERT_EQ(shape.bytes(), shape.first_offset(0) + places * kStreamBytes);
  }
  EXPECT_FALSE(ArenaShape{0}.sound());
  EXPECT_FALSE(ArenaShape{kPlacesMax + 1}.sound());
}

TEST(ArenaLayout, SmallArenas) {
  EXPECT_EQ(1024u, ArenaShape{1}.control_offset(0));
  EXPECT_EQ(4096u, ArenaShape{1}.first_offset(0));
  EXPECT_EQ(4096u + 65536u, ArenaShape{1}.rest_offset(0));
  EXPECT_EQ(1024u + 7 * 3072u, ArenaShape{8}.control_offset(7));
  EXPECT_EQ(28672u, ArenaShape{8}.first_offset(0));
}

}  // namespace
}  // namespace shunt::layout
