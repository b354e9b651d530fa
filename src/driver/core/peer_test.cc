#include "driver/core/peer.h"

#include <gtest/gtest.h>

#include "driver/support_test.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

class PeerTest : public WindowFixture {
 protected:
  void SetUp() override {
    make_window(Kind::kDevice);
    backing = window::open_backing(spec);
    const auto& partitions = backing.table.partitions;
    own.emplace(backing, partitions[0], window::Access::kReadWrite);
    other.emplace(backing, partitions[1], window::Access::kReadWrite);
    peer.emplace(backing, partitions[1], partitions[0], own->writable(), Options{});
  }
  layout::SectionLife& life() { return other->writable()->header.life; }

  window::Backing backing;
  std::optional<window::SectionFile> own;
  std::optional<window::SectionFile> other;
  std::optional<Peer> peer;
  Clock::time_point now{1h};
};

TEST_F(PeerTest, WhoCameWhileARequestLookedIsToldOfLater) {
  EXPECT_FALSE(peer->up(now));
  other->writable()->lanes[0].generation.store(1 << 16);
  life().state.store(1);
  life().heartbeat.fetch_add(1);
  EXPECT_TRUE(peer->up(now + 100ms));
  EXPECT_EQ(Liveness::Change::kCame, peer->look(now + 100ms));
  EXPECT_EQ(Liveness::Change::kNone, peer->look(now + 100ms)) << "once";
}

TEST_F(PeerTest, WhoComesAndGoesAllTheTimeFillsNoLog) {
  int lines = 0;
  for (int i = 0; i < 1000; ++i) lines += peer->worth_a_line(now + i * 10ms) ? 1 : 0;
  EXPECT_LE(lines, 20);
  EXPECT_GE(lines, 2);
  EXPECT_TRUE(peer->worth_a_line(now + 1h)) << "but not for ever";
}

}  // namespace
}  // namespace shunt::driver
