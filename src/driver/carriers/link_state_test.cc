#include "driver/carriers/link_state.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace shunt::driver {
namespace {

constexpr std::array kHere{Here::kUnanswered, Here::kRungEarly, Here::kCarrying, Here::kHungUp,
                           Here::kLetGo};
constexpr std::array kThere{There::kOpen, There::kClosed, There::kLetGo, There::kGone};

// A row for each state, a column for each that may follow it.
template <typename States>
std::string table_of(const States& states) {
  std::string table;
  for (const auto from : states) {
    for (const auto to : states) table += may_follow(from, to) ? 'x' : '.';
    table += '\n';
  }
  return table;
}

TEST(LinkState, EachEndGoesForwardOnly) {
  EXPECT_EQ(
      ".xxx.\n"
      "..xx.\n"
      "...x.\n"
      "....x\n"
      ".....\n",
      table_of(kHere));
  EXPECT_EQ(
      ".x.x\n"
      "..xx\n"
      "...x\n"
      "....\n",
      table_of(kThere));
}

LinkState in(Here here, There there) {
  LinkState state;
  if (here >= Here::kHungUp) state.advance(Here::kHungUp);
  if (here != Here::kUnanswered && here != Here::kHungUp) state.advance(here);
  if (there == There::kLetGo) state.advance(There::kClosed);
  if (there != There::kOpen) state.advance(there);
  return state;
}

TEST(LinkState, IsOverWhenBothHaveLetGoOrNobodyIsThere) {
  for (const Here here : kHere) {
    for (const There there : kThere) {
      const LinkState state = in(here, there);
      ASSERT_EQ(here, state.here());
      ASSERT_EQ(there, state.there());
      const bool both = here == Here::kLetGo && there == There::kLetGo;
      const bool alone = there == There::kGone && (here == Here::kHungUp || here == Here::kLetGo);
      EXPECT_EQ(both || alone, state.over())
          << "here " << static_cast<int>(here) << ", there " << static_cast<int>(there);
    }
  }
}

TEST(LinkState, TheOtherEndIsHeardOnceAndInOrder) {
  std::string heard;  // rings, closes, lets go: 000, 001, ... 111
  for (const There there : kThere) {
    const LinkState state = in(Here::kCarrying, there);
    for (int bits = 0; bits < 8; ++bits) {
      heard += state.may_hear((bits & 4) != 0, (bits & 2) != 0, (bits & 1) != 0) ? 'x' : '.';
    }
    heard += '\n';
  }
  EXPECT_EQ(
      "x.xxx.xx\n"
      "xx......\n"
      "x.......\n"
      "........\n",
      heard);
}

// Where assertions are compiled in; elsewhere the step is taken.
TEST(LinkState, AWrongStepIsAsserted) {
  LinkState state = in(Here::kHungUp, There::kClosed);
  EXPECT_DEBUG_DEATH(state.advance(Here::kCarrying), "may_follow");
  state = in(Here::kHungUp, There::kLetGo);
  EXPECT_DEBUG_DEATH(state.advance(There::kClosed), "may_follow");
}

}  // namespace
}  // namespace shunt::driver
