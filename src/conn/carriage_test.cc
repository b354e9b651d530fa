#include "conn/carriage.h"

#include <gtest/gtest.h>

#include <vector>

namespace shunt::conn {
namespace {

using enum Carriage;
using enum CarriageEvent;

const std::vector<Carriage> kAll = {kWaiting, kRings, kFollowing, kRest, kPlain, kLost};
const std::vector<CarriageEvent> kEvents = {kConnected, kPeerLeft, kLeft,    kFollowed,
                                            kRestMoved, kRehomed,  kArrived, kUntrusted};

// What each state answers to `changing`, and that nothing else changes it.
struct Change {
  CarriageEvent event;
  Carriage to;
};
void expect_only(Carriage from, const std::vector<Change>& changing) {
  for (const CarriageEvent event : kEvents) {
    Carriage to = from;
    for (const Change& change : changing) {
      if (change.event == event) to = change.to;
    }
    EXPECT_EQ(to, after(from, event))
        << "from " << static_cast<int>(from) << " by " << static_cast<int>(event);
  }
}

TEST(Carriage, Waiting) {
  expect_only(kWaiting, {{kConnected, kRings},
                         {kRehomed, kPlain},  // the listener closed without accepting
                         {kArrived, kPlain},
                         {kUntrusted, kLost}});
}

TEST(Carriage, Rings) {
  expect_only(kRings,
              {{kPeerLeft, kFollowing}, {kLeft, kPlain}, {kRehomed, kPlain}, {kUntrusted, kLost}});
}

TEST(Carriage, Following) {
  expect_only(kFollowing,
              {{kFollowed, kRest}, {kLeft, kPlain}, {kRehomed, kPlain}, {kUntrusted, kLost}});
}

TEST(Carriage, Rest) {
  expect_only(kRest, {{kRestMoved, kPlain}, {kRehomed, kPlain}, {kUntrusted, kLost}});
}

TEST(Carriage, PlainIsFinal) { expect_only(kPlain, {}); }

TEST(Carriage, LostIsLeftForAFreshSocketOnly) { expect_only(kLost, {{kRehomed, kPlain}}); }

TEST(Carriage, ADowngradeFromBothEnds) {
  Carriage first = after(kWaiting, kConnected);
  Carriage second = first;
  first = after(first, kLeft);
  EXPECT_EQ(kPlain, first);
  for (const CarriageEvent event : {kPeerLeft, kPeerLeft, kFollowed, kPeerLeft, kRestMoved}) {
    second = after(second, event);
  }
  EXPECT_EQ(kPlain, second);
}

TEST(Carriage, NoEventBringsTheRingsBack) {
  for (const Carriage from : kAll) {
    if (!leaves_rings(from) && from != kLost) continue;
    for (const CarriageEvent event : kEvents) {
      const Carriage to = after(from, event);
      EXPECT_TRUE(leaves_rings(to) || to == kLost);
    }
  }
}

TEST(Carriage, Questions) {
  for (const Carriage c : kAll) {
    EXPECT_EQ(c == kRest || c == kPlain, off_rings(c));
    EXPECT_EQ(c == kFollowing || c == kRest || c == kPlain, leaves_rings(c));
  }
}

}  // namespace
}  // namespace shunt::conn
