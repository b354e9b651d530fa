#include "cli/text_table.h"

#include <gtest/gtest.h>

namespace shunt::cli {
namespace {

TEST(TextTableTest, AlignsColumns) {
  TextTable table({"NAME", ">COUNT"});
  EXPECT_TRUE(table.empty());
  table.add({"a", "12"});
  table.add({"longer", "3456789"});
  EXPECT_FALSE(table.empty());
  EXPECT_EQ(table.str(),
            "  NAME      COUNT\n"
            "  a            12\n"
            "  longer  3456789\n");
}

TEST(TextTableTest, LeavesNoBlanksAtTheEndOfALine) {
  TextTable table({"A", "B"});
  table.add({"x"});
  EXPECT_EQ(table.str(), "  A  B\n  x\n");
}

TEST(BytesTextTest, UsesBinaryUnits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.0 KiB");
  EXPECT_EQ(bytes_text(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(bytes_text(std::uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(bytes_text(~std::uint64_t{0}), "16.0 EiB");
}

}  // namespace
}  // namespace shunt::cli
