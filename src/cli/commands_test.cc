#include "cli/commands.h"

#include <gtest/gtest.h>

namespace shunt::cli {
namespace {

using Words = std::vector<std::string>;

void expect_split(const Words& words, const Words& own, const Words& program) {
  const SplitCommand split = split_command(words);
  EXPECT_EQ(split.own, own);
  EXPECT_EQ(split.program, program);
}

TEST(SplitCommandTest, TheProgramIsBehindTheDashes) {
  expect_split({"run", "--require", "--", "a", "--", "b"}, {"run", "--require"}, {"a", "--", "b"});
  expect_split({"run", "--window", "--", "--", "x"}, {"run", "--window", "--"}, {"x"});
}

TEST(SplitCommandTest, TheDashesMayBeLeftOut) {
  expect_split({"run", "--window", "d", "--partition=p", "a", "--help", ""},
               {"run", "--window", "d", "--partition=p"}, {"a", "--help", ""});
}

TEST(SplitCommandTest, ThereMayBeNoProgram) {
  expect_split({"run"}, {"run"}, {});
  expect_split({"run", "--"}, {"run"}, {});
  expect_split({"run", "--help"}, {"run", "--help"}, {});
  expect_split({"run", "--window"}, {"run", "--window"}, {});
}

TEST(SplitCommandTest, OtherSubcommandsKeepTheirWords) {
  expect_split({"window", "show", "--", "d"}, {"window", "show", "--", "d"}, {});
  expect_split({}, {}, {});
}

}  // namespace
}  // namespace shunt::cli
