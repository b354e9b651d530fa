// Who gets which area, and when an area may be used again.
#include "window/arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ring/current.h"
#include "ring/writer.h"

namespace shunt::window {
namespace {

using wire::Reason;

constexpr std::uint32_t kOwn = 2;

// The own section's range in ordinary memory, and programs that map areas because the test says so.
class ArenaTest : public ::testing::Test {
 protected:
  explicit ArenaTest(std::uint32_t areas = 12, std::uint32_t partitions = 4)
      : g(geometry(areas, partitions)),
        section(
            static_cast<std::uint8_t*>(mmap(nullptr, g.section_stride, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (section == MAP_FAILED || g.areas != areas) abort();
  }
  ~ArenaTest() override { munmap(section, g.section_stride); }

  static layout::DeviceGeometry geometry(std::uint32_t areas, std::uint32_t partitions) {
    constexpr std::uint64_t kSection = 1 << 20;
    const std::uint64_t stride = kSection + areas * layout::kAreaBytes;
    return layout::device_geometry(layout::kDeviceHeadBytes + partitions * stride,
                                   layout::kGranuleMin, kSection, partitions);
  }
  Arena make(std::uint32_t program_max = 1000) {
    return Arena(section, g, kOwn, program_max, [this](std::uint64_t offset) {
      ++asked;
      return mapped.contains(offset);
    });
  }
  std::uint64_t offset(std::uint32_t index) const { return g.area_offset(kOwn, index); }
  const layout::ArenaCounters& counters() const {
    return reinterpret_cast<const layout::Section*>(section)->header.arena;
  }
  AreaGrant must_give(Arena& arena, std::uint32_t peer, pid_t pid = 0) {
    AreaGrant grant;
    EXPECT_EQ(Reason::kNone, arena.give(peer, pid, &grant));
    return grant;
  }

  layout::DeviceGeometry g;
  std::uint8_t* section;
  std::set<std::uint64_t> mapped;
  std::uint64_t asked = 0;
};

TEST_F(ArenaTest, GrantSaysWhereTheAreaIs) {
  Arena arena = make();
  EXPECT_EQ(12u, arena.total());
  std::set<std::uint32_t> indices;
  for (int i = 0; i < 12; ++i) {
    const AreaGrant grant = must_give(arena, 1 + i % 2 * 2);
    indices.insert(grant.index);
    EXPECT_EQ(grant.index, g.area_at(grant.section_offset));
    EXPECT_EQ(grant.window_offset, g.section_offset(kOwn) + grant.section_offset);
    EXPECT_EQ(section + grant.section_offset,
              reinterpret_cast<std::uint8_t*>(arena.area(grant.index)));
    if (i == 7) break;
  }
  EXPECT_EQ(8u, indices.size()) << "each only once";
  EXPECT_EQ(8u, arena.used());
  EXPECT_EQ(8u, counters().areas_used.load());
  EXPECT_EQ(12u, counters().areas_total.load());
}

TEST_F(ArenaTest, GivenAreaIsValidAndEmpty) {
  Arena arena = make();
  std::memset(section + g.arena_offset, 0xee, g.section_stride - g.arena_offset);
  const AreaGrant grant = must_give(arena, 1);
  const layout::Area* area = arena.area(grant.index);
  EXPECT_TRUE(ring::valid_header(area->header, grant.generation));
  EXPECT_TRUE(ring::still_current(area, grant.generation));
  EXPECT_EQ(grant.generation, area->hot.generation.load());
  EXPECT_EQ(0u, area->hot.head.load());
  EXPECT_EQ(0u, area->tail.tail.load());
  EXPECT_EQ(layout::kFateOpen, area->fate_line.fate.load());
  EXPECT_EQ(layout::kCarrying, area->switch_line.plain.load());
  // The rest of the range, and the neighbours, are left alone.
  EXPECT_EQ(0xee, layout::segment_data(area, 0)[0]);
  EXPECT_EQ(0xee, reinterpret_cast<const std::uint8_t*>(arena.area(grant.index + 1))[0]);
}

TEST_F(ArenaTest, FreeOnlyWhenAllHaveLetGo) {
  // Every order of: the link is over here, the peer has let go, the program has unmapped.
  std::vector<int> order{0, 1, 2};
  do {
    Arena arena = make();
    const AreaGrant grant = must_give(arena, 1);
    mapped.insert(offset(grant.index));
    for (const int step : order) {
      EXPECT_EQ(1u, arena.used());
      if (step == 0) arena.end(grant.index);
      if (step == 1) arena.peer_let_go(grant.index);
      if (step == 2) mapped.clear();
    }
    arena.sweep(1);
    EXPECT_EQ(0u, arena.used());
    EXPECT_EQ(0u, arena.lingering());
    EXPECT_EQ(0u, arena.used_with(1));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(ArenaTest, NormalEndAsksTheKernelOnce) {
  Arena arena = make();
  const AreaGrant grant = must_give(arena, 1);
  asked = 0;
  arena.peer_let_go(grant.index);
  EXPECT_EQ(0u, asked);
  arena.end(grant.index);
  EXPECT_EQ(1u, asked);
  EXPECT_EQ(0u, arena.used());
  EXPECT_FALSE(arena.sweep(100));
  EXPECT_EQ(1u, asked);
}

TEST_F(ArenaTest, LingersUntilThePeerLetsGo) {
  Arena arena = make();
  const AreaGrant grant = must_give(arena, 3);
  arena.end(grant.index);
  EXPECT_EQ(1u, arena.lingering());
  EXPECT_EQ(1u, counters().areas_lingering.load());
  EXPECT_FALSE(arena.sweep(100)) << "nothing to be found out by looking";
  EXPECT_EQ(1u, arena.used_with(3));
  arena.peer_let_go(grant.index);
  EXPECT_EQ(0u, arena.used());
  EXPECT_EQ(0u, counters().areas_lingering.load());
}

TEST_F(ArenaTest, ToldTwiceCountsOnce) {
  Arena arena = make();
  const AreaGrant one = must_give(arena, 1);
  const AreaGrant two = must_give(arena, 1);
  for (int i = 0; i < 3; ++i) {
    arena.end(one.index);
    arena.peer_let_go(one.index);
  }
  EXPECT_EQ(1u, arena.used());
  EXPECT_EQ(1u, arena.used_with(1));
  std::set<std::uint32_t> indices{two.index};
  for (std::uint32_t i = 0; i < 7; ++i)
    EXPECT_TRUE(indices.insert(must_give(arena, 1).index).second);
}

TEST_F(ArenaTest, RangesRestAsLongAsPossible) {
  Arena arena = make();
  const AreaGrant first = must_give(arena, 1);
  arena.end(first.index);
  arena.peer_let_go(first.index);
  for (std::uint32_t i = 1; i < arena.total(); ++i) {
    const AreaGrant next = must_give(arena, 1);
    EXPECT_NE(first.index, next.index);
    arena.end(next.index);
    arena.peer_let_go(next.index);
  }
  const AreaGrant again = must_give(arena, 1);
  EXPECT_EQ(first.index, again.index);
  EXPECT_NE(first.generation, again.generation);
}

TEST_F(ArenaTest, StaleReaderFindsOut) {
  Arena arena = make();
  AreaGrant grant = must_give(arena, 1);
  const layout::Area* area = arena.area(grant.index);
  for (int i = 0; i < 100; ++i) {
    arena.end(grant.index);
    arena.peer_let_go(grant.index);
    AreaGrant next;
    do {
      next = must_give(arena, 1);
      if (next.index != grant.index) {
        arena.end(next.index);
        arena.peer_let_go(next.index);
      }
    } while (next.index != grant.index);
    EXPECT_NE(0u, next.generation);
    EXPECT_FALSE(ring::still_current(area, grant.generation));
    grant = next;
  }
}

TEST_F(ArenaTest, NoPeerTakesTheSharesOfOthers) {
  // 12 areas, 3 peers: each has 2 for certain.
  Arena arena = make();
  EXPECT_EQ(2u, arena.share());
  AreaGrant grant;
  std::uint32_t greedy = 0;
  while (arena.give(1, 0, &grant) == Reason::kNone) ++greedy;
  EXPECT_EQ(8u, greedy);
  EXPECT_EQ(Reason::kBacklogFull, arena.give(1, 0, &grant));
  EXPECT_EQ(2u, counters().quota_refused.load());
  for (const std::uint32_t peer : {3u, 4u}) {
    must_give(arena, peer);
    EXPECT_EQ(Reason::kBacklogFull, arena.give(1, 0, &grant));
    must_give(arena, peer);
  }
  EXPECT_EQ(Reason::kNoMemory, arena.give(3, 0, &grant));
  EXPECT_EQ(1u, counters().no_area.load());
}

TEST_F(ArenaTest, PeerThatNeverLetsGoUsesUpItsOwn) {
  Arena arena = make();
  AreaGrant grant;
  while (arena.give(1, 0, &grant) == Reason::kNone) arena.end(grant.index);
  EXPECT_EQ(8u, arena.lingering());
  for (int round = 0; round < 10; ++round) {
    const AreaGrant other = must_give(arena, 3);
    arena.end(other.index);
    arena.peer_let_go(other.index);
  }
}

TEST_F(ArenaTest, ProgramHasAtMostSoMany) {
  Arena arena = make(3);
  std::vector<AreaGrant> grants;
  for (int i = 0; i < 3; ++i) grants.push_back(must_give(arena, 1, 77));
  AreaGrant grant;
  EXPECT_EQ(Reason::kBacklogFull, arena.give(1, 77, &grant));
  must_give(arena, 1, 78);
  must_give(arena, 1);  // on behalf of the peer
  arena.end(grants[0].index);
  EXPECT_EQ(Reason::kBacklogFull, arena.give(1, 77, &grant)) << "a lingering one counts";
  arena.peer_let_go(grants[0].index);
  must_give(arena, 1, 77);
}

TEST_F(ArenaTest, RestartedDriverLeavesWhatProgramsStillMap) {
  std::vector<AreaGrant> grants;
  {
    Arena arena = make();
    for (int i = 0; i < 3; ++i) grants.push_back(must_give(arena, 1, 5));
  }
  mapped = {offset(grants[0].index), offset(grants[2].index)};
  Arena arena = make(1);
  EXPECT_EQ(2u, arena.used());
  EXPECT_EQ(2u, arena.lingering());
  EXPECT_EQ(0u, arena.used_with(1));
  must_give(arena, 1, 5);  // of the earlier life nothing is known of programs
  EXPECT_TRUE(arena.sweep(100));
  mapped.erase(offset(grants[0].index));
  EXPECT_TRUE(arena.sweep(100));
  EXPECT_EQ(1u, arena.lingering());
  mapped.clear();
  EXPECT_FALSE(arena.sweep(100));
  EXPECT_EQ(1u, arena.used());
}

TEST_F(ArenaTest, SweepAsksInTurn) {
  for (std::uint32_t i = 0; i < 6; ++i) mapped.insert(offset(i));
  Arena arena = make();
  mapped.erase(offset(5));
  asked = 0;
  EXPECT_TRUE(arena.sweep(2));
  EXPECT_EQ(2u, asked);
  EXPECT_TRUE(arena.sweep(2));
  EXPECT_EQ(6u, arena.lingering());
  EXPECT_TRUE(arena.sweep(2));
  EXPECT_EQ(5u, arena.lingering());
}

// Against a model that keeps everything in the plainest way.
class ArenaModel : public ArenaTest, public ::testing::WithParamInterface<std::uint32_t> {
 protected:
  struct Area {
    std::uint32_t peer;
    pid_t pid;
    std::uint32_t generation;
    bool ended;
    bool let_go;
  };
  static constexpr std::uint32_t kPartitions = 4;
  static constexpr std::uint32_t kProgramMax = 4;

  ArenaModel() : ArenaTest(5 + GetParam() * 4, kPartitions) {}

  Reason expected(std::uint32_t peer, pid_t pid) const {
    const std::uint32_t share = g.areas / 2 / (kPartitions - 1);
    if (free.empty()) return Reason::kNoMemory;
    std::map<std::uint32_t, std::uint32_t> with;
    std::uint32_t of_program = 0;
    for (const auto& [index, area] : used) {
      ++with[area.peer];
      if (pid != 0 && area.pid == pid) ++of_program;
    }
    if (of_program >= kProgramMax) return Reason::kBacklogFull;
    if (with[peer] < share) return Reason::kNone;
    std::uint32_t kept = 0;
    for (const std::uint32_t other : {1u, 3u, 4u}) {
      if (other != peer && with[other] < share) kept += share - with[other];
    }
    return free.size() > kept ? Reason::kNone : Reason::kBacklogFull;
  }
  void settle(std::uint32_t index) {
    const Area& area = used.at(index);
    if (!area.ended || !area.let_go) return;
    if (mapped.contains(offset(index))) {
      unmapping.push_back(index);
    } else {
      used.erase(index);
      free.push_back(index);
    }
  }

  std::map<std::uint32_t, Area> used;
  std::vector<std::uint32_t> free;       // in the order of becoming so
  std::vector<std::uint32_t> unmapping;  // likewise: only a program maps them
};

TEST_P(ArenaModel, RandomHistories) {
  std::mt19937_64 random(GetParam());
  Arena arena = make(kProgramMax);
  for (std::uint32_t i = 0; i < g.areas; ++i) free.push_back(i);
  constexpr std::uint32_t kPeers[] = {1, 3, 4};
  std::map<std::uint32_t, std::uint32_t> generations;
  for (int step = 0; step < 20000; ++step) {
    const auto index = static_cast<std::uint32_t>(random() % g.areas);
    const auto it = used.find(index);
    switch (random() % 6) {
      case 0:
      case 1: {
        const std::uint32_t peer = kPeers[random() % 3];
        const auto pid = static_cast<pid_t>(random() % 5);
        AreaGrant grant;
        const Reason reason = expected(peer, pid);
        ASSERT_EQ(reason, arena.give(peer, pid, &grant)) << step;
        if (reason != Reason::kNone) break;
        ASSERT_EQ(free.front(), grant.index);
        ASSERT_NE(generations[grant.index], grant.generation);
        ASSERT_TRUE(ring::valid_header(arena.area(grant.index)->header, grant.generation));
        free.erase(free.begin());
        generations[grant.index] = grant.generation;
        used[grant.index] = Area{peer, pid, grant.generation, false, false};
        if (random() % 2 == 0) mapped.insert(offset(grant.index));
        break;
      }
      case 2:
        arena.end(index);
        if (it == used.end() || std::exchange(it->second.ended, true)) break;
        settle(index);
        break;
      case 3:
        arena.peer_let_go(index);
        if (it == used.end() || std::exchange(it->second.let_go, true)) break;
        settle(index);
        break;
      case 4:
        mapped.erase(offset(index));
        break;
      default: {
        const auto max = static_cast<std::uint32_t>(random() % 4);
        const std::size_t looks = std::min<std::size_t>(max, unmapping.size());
        for (std::size_t i = 0; i < looks; ++i) {
          const std::uint32_t first = unmapping.front();
          unmapping.erase(unmapping.begin());
          settle(first);
        }
        ASSERT_EQ(!unmapping.empty(), arena.sweep(max));
      }
    }
    std::uint32_t lingering = 0;
    std::map<std::uint32_t, std::uint32_t> with;
    for (const auto& [i, area] : used) {
      lingering += area.ended;
      ++with[area.peer];
    }
    ASSERT_EQ(used.size(), arena.used());
    ASSERT_EQ(lingering, arena.lingering());
    for (const std::uint32_t peer : kPeers) ASSERT_EQ(with[peer], arena.used_with(peer));
    for (const auto& [i, area] : used) {
      ASSERT_TRUE(ring::still_current(arena.area(i), area.generation)) << "nobody took it";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ArenaModel, ::testing::Range(0u, 5u));

}  // namespace
}  // namespace shunt::window
