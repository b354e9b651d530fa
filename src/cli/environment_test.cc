#include "cli/environment.h"

#include <gtest/gtest.h>

#include "cli/failure.h"
#include "cli/temp_dir_test_util.h"

namespace shunt::cli {
namespace {

std::string failure_of(const char* override_path, const std::string& executable) {
  try {
    return "found " + find_provider(override_path, executable);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.status(), kStatusRunFailed);
    return failure.what();
  }
}

TEST(PreloadValueTest, GoesInFrontAndKeepsTheRest) {
  EXPECT_EQ(preload_value("/l/libshunt.so", nullptr), "/l/libshunt.so");
  EXPECT_EQ(preload_value("/l/libshunt.so", ""), "/l/libshunt.so");
  EXPECT_EQ(preload_value("/l/libshunt.so", "/a.so /b.so:/c.so"),
            "/l/libshunt.so:/a.so:/b.so:/c.so");
}

TEST(PreloadValueTest, IsNotNamedTwice) {
  EXPECT_EQ(preload_value("/l/libshunt.so", "/a.so::/l/libshunt.so"), "/l/libshunt.so:/a.so");
}

TEST(FindProviderTest, LooksBesideTheProgram) {
  const TempDir dir;
  std::filesystem::create_directories(dir.path() + "/bin");
  std::filesystem::create_directories(dir.path() + "/lib");
  const std::string library = dir.file("lib/libshunt.so", "", 0644);
  EXPECT_EQ(find_provider(nullptr, dir.path() + "/bin/shunt"), std::filesystem::canonical(library));
}

TEST(FindProviderTest, TakesTheOverride) {
  const TempDir dir;
  const std::string library = dir.file("other.so", "", 0644);
  EXPECT_EQ(find_provider(library.c_str(), "/nowhere/bin/shunt"),
            std::filesystem::canonical(library));
  EXPECT_NE(failure_of("/no/such.so", "/bin/shunt").find("SHUNT_LIBRARY"), std::string::npos);
}

TEST(FindProviderTest, RefusesAPathThatLdPreloadCannotCarry) {
  const TempDir dir;
  const std::string library = dir.file("a b.so", "", 0644);
  EXPECT_NE(failure_of(library.c_str(), "/bin/shunt").find("space"), std::string::npos);
}

}  // namespace
}  // namespace shunt::cli
