// Pins the ABI: a change here needs a new wire::kLayoutVersion. The bytes that the ring leaves in an
// area are pinned in ring/area_golden_test.cc.
#include "layout/area.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "layout/status_page.h"

namespace shunt::layout {
namespace {

TEST(AreaLayout, Sizes) {
  EXPECT_EQ(wire::kLayoutVersion, 4);
  EXPECT_EQ(kSegmentBytes, 65536U);
  EXPECT_EQ(kSegmentCount, 64U);
  EXPECT_EQ(kStreamBytes, 4194304U);
  EXPECT_EQ(kAreaBytes, 4198400U);
  EXPECT_EQ(kInlineBytes, 88U);
  EXPECT_EQ(sizeof(AreaHeader), 128U);
  EXPECT_EQ(sizeof(HotLine), 128U);
  EXPECT_EQ(sizeof(TailLine), 128U);
  EXPECT_EQ(sizeof(SegmentControl), 32U);
  EXPECT_EQ(sizeof(Area), 3072U);
}

TEST(AreaLayout, HeaderOffsets) {
  EXPECT_EQ(std::memcmp(&kAreaMagic, "SHT1", 4), 0);
  EXPECT_EQ(offsetof(AreaHeader, magic), 0U);
  EXPECT_EQ(offsetof(AreaHeader, version), 4U);
  EXPECT_EQ(offsetof(AreaHeader, header_bytes), 6U);
  EXPECT_EQ(offsetof(AreaHeader, generation), 8U);
  EXPECT_EQ(offsetof(AreaHeader, segment_bytes), 12U);
  EXPECT_EQ(offsetof(AreaHeader, segment_count), 16U);
  EXPECT_EQ(offsetof(AreaHeader, segments_offset), 20U);
  EXPECT_EQ(offsetof(AreaHeader, area_bytes), 24U);
}

TEST(AreaLayout, ControlOffsets) {
  EXPECT_EQ(offsetof(Area, hot), 128U);
  EXPECT_EQ(offsetof(HotLine, head), 0U);
  EXPECT_EQ(offsetof(HotLine, tail_echo), 8U);
  EXPECT_EQ(offsetof(HotLine, generation), 16U);
  EXPECT_EQ(offsetof(HotLine, recv_waiting), 20U);
  EXPECT_EQ(offsetof(HotLine, send_waiting), 24U);
  EXPECT_EQ(offsetof(HotLine, flags), 28U);
  EXPECT_EQ(offsetof(HotLine, inline_bytes), 30U);
  EXPECT_EQ(offsetof(HotLine, inline_start), 32U);
  EXPECT_EQ(offsetof(HotLine, inline_data), 40U);
  EXPECT_EQ(offsetof(Area, tail), 256U);
  EXPECT_EQ(offsetof(TailLine, tail), 0U);
  EXPECT_EQ(offsetof(TailLine, segment), 8U);
  EXPECT_EQ(offsetof(Area, begin), 384U);
  EXPECT_EQ(offsetof(Area, switch_line), 640U);
  EXPECT_EQ(offsetof(SwitchLine, plain), 0U);
  EXPECT_EQ(offsetof(SwitchLine, ringing), 4U);
  EXPECT_EQ(offsetof(Area, fate_line), 768U);
  EXPECT_EQ(offsetof(FateLine, fate), 0U);
  EXPECT_EQ(offsetof(Area, segment), 1024U);
  EXPECT_EQ(offsetof(SegmentControl, begin), 0U);
  EXPECT_EQ(offsetof(SegmentControl, end), 4U);
  EXPECT_EQ(offsetof(SegmentControl, length), 8U);
  EXPECT_EQ(offsetof(SegmentControl, next), 12U);
  EXPECT_EQ(offsetof(SegmentControl, last), 16U);
  EXPECT_EQ(offsetof(SegmentControl, base), 24U);
}

TEST(AreaLayout, SegmentsFillTheAreaToItsEnd) {
  std::vector<std::uint8_t> memory(sizeof(Area));
  const auto* area = reinterpret_cast<const Area*>(memory.data());
  for (std::uint32_t i = 0; i < kSegmentCount; ++i) {
    EXPECT_EQ(segment_data(area, i) - memory.data(), 4096 + std::ptrdiff_t{65536} * i);
  }
  EXPECT_EQ(segment_data(area, kSegmentCount) - memory.data(), std::ptrdiff_t{kAreaBytes});
}

// Every cache line has one writer: what the owner's writer changes, what its reader changes, what its driver
// changes and what is constant never share a line pair.
TEST(AreaLayout, OwnersOfLinesAreApart) {
  EXPECT_EQ(offsetof(Area, hot) % 128, 0U);
  EXPECT_EQ(offsetof(Area, tail) % 128, 0U);
  EXPECT_EQ(offsetof(Area, begin) % 128, 0U);
  EXPECT_EQ(offsetof(Area, switch_line) % 128, 0U);
  EXPECT_EQ(offsetof(Area, fate_line) % 128, 0U);
  EXPECT_EQ(offsetof(Area, segment) % 128, 0U);
}

TEST(StatusPageLayout, Sizes) {
  EXPECT_EQ(sizeof(StatusAddress), 20U);
  EXPECT_EQ(sizeof(StatusEntry), 152U);
  EXPECT_EQ(offsetof(StatusPage, entry), 3072U);
  EXPECT_EQ(offsetof(StatusEntry, local), 16U);
  EXPECT_EQ(offsetof(StatusEntry, peer_partition), 56U);
  EXPECT_EQ(offsetof(StatusEntry, bytes_sent), 128U);
}

}  // namespace
}  // namespace shunt::layout
