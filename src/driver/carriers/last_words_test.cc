// Drivers that go, and connections that had ended before.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <memory>
#include <vector>

#include "driver/carriers/relay_support_test.h"
#include "ring/current.h"

namespace shunt::driver {
namespace {

class LastWords : public Relay {
 protected:
  void SetUp() override {
    Relay::SetUp();
    pair = connect();
  }
  void expect_the_end_is_no_reset() {
    EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
    EXPECT_TRUE(eventually([&] { return areas(1).peers_declared_dead == 1; }));
    EXPECT_EQ(layout::kFatePeerClosed, pair->fate_b());
    pair->close_b();
    EXPECT_TRUE(eventually([&] { return areas(1).areas_used == 0; }));
    EXPECT_EQ(0u, areas(1).links_reset);
  }
  // In one moment, as a driver sees it that was busy.
  void close_and_stop() {
    pause_asleep(*a, sections[0]->section());
    pair->close_a();
    a->signal(SIGTERM);
    a->signal(SIGCONT);
    EXPECT_EQ(0, WEXITSTATUS(a->wait()));
  }
  std::unique_ptr<Pair> pair;
};

TEST_F(LastWords, WhatClosedBeforeTheDriverStoppedIsToldAsClosed) {
  close_and_stop();
  expect_the_end_is_no_reset();
}

TEST_F(LastWords, AreHeardAlsoBehindTheDeath) {
  pause_asleep(*b, sections[1]->section());
  close_and_stop();
  b->signal(SIGCONT);
  expect_the_end_is_no_reset();
}

// The program sent all and left; the listener's has not read it yet when a's driver is gone.
TEST_F(LastWords, AClosedConnectionOutlivesThePeersDriver) {
  pair->close_a();
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  a->kill_hard();
  a = start("a");  // ready when b has acknowledged that what was before is over
  EXPECT_EQ(layout::kFatePeerClosed, pair->fate_b());
  EXPECT_EQ(0u, areas(1).links_reset);
  const std::uint32_t generation = pair->arrived.connect.generation;
  EXPECT_TRUE(ring::still_current(pair->a_at_b.get(), generation)) << "it can still be read";
  // The new driver knows nothing of it, and gives the area out when its turn comes.
  std::vector<std::unique_ptr<Pair>> others;
  while (ring::still_current(pair->a_at_b.get(), generation) && others.size() < kAreas / 2) {
    others.push_back(std::make_unique<Pair>(dir));
    ASSERT_EQ(kQueued, others.back()->program.ask(listener->address));
  }
  EXPECT_FALSE(ring::still_current(pair->a_at_b.get(), generation)) << "who reads on is reset";
}

}  // namespace
}  // namespace shunt::driver
