// Windows in real directories: made, refused, damaged, looked at, removed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "window/backing.h"
#include "window/error.h"
#include "window/manage.h"
#include "window/section_file.h"
#include "window/status.h"
#include "window/table_file.h"
#include "window/window_test_util.h"

namespace shunt::window {
namespace {

class WindowTest : public WindowFixture {
 protected:
  static wire::PartitionTable two(std::optional<std::uint64_t> size = std::nullopt) {
    return plan_table({parse_partition("a=10.77.0.1"), parse_partition("b=10.77.0.2,fd00::2")},
                      size);
  }
  static std::string plan_error(std::vector<std::string> partitions,
                                std::optional<std::uint64_t> size = std::nullopt) {
    return error_of([&] {
      std::vector<PartitionSpec> specs;
      for (const auto& p : partitions) specs.push_back(parse_partition(p));
      plan_table(specs, size);
    });
  }
  std::string load_error() {
    return error_of([&] { load_table(dir); });
  }
};

TEST_F(WindowTest, CreateShowDestroyLeavesNothing) {
  create_window(dir, two());
  const WindowStatus status = read_status(dir);
  ASSERT_EQ(2u, status.partitions.size());
  EXPECT_EQ("b", status.partitions[1].name);
  EXPECT_EQ((std::vector<std::string>{"10.77.0.2", "fd00::2"}), status.partitions[1].addresses);
  EXPECT_EQ(DriverCondition::kDown, status.partitions[0].driver);
  EXPECT_EQ(kSectionBytesDefault, fs::file_size(dir + "/a.section"));
  EXPECT_EQ(fs::perms(0600), fs::status(dir + "/a.section").permissions());
  EXPECT_EQ(fs::perms(0644), fs::status(dir + "/table").permissions());
  destroy_window(dir);
  EXPECT_FALSE(fs::exists(dir));
}

TEST_F(WindowTest, SizeIsSharedByTheSections) {
  create_window(dir, two(200000));
  EXPECT_EQ(98304u, fs::file_size(dir + "/a.section"));
  EXPECT_SAYS(plan_error({"a=10.0.0.1", "b=10.0.0.2"}, 1000), "too small");
  EXPECT_SAYS(plan_error({"a=10.0.0.1"}, ~std::uint64_t{0}), "too large");
}

TEST_F(WindowTest, BadPlansAreRefusedInWords) {
  EXPECT_SAYS(plan_error({}), "needs a partition");
  EXPECT_SAYS(plan_error({"a"}), "NAME=ADDRESS");
  EXPECT_SAYS(plan_error({"=10.0.0.1"}), "NAME=ADDRESS");
  EXPECT_SAYS(plan_error({"a b=10.0.0.1"}), "bad partition name 'a b'");
  EXPECT_SAYS(plan_error({"a="}), "no address");
  EXPECT_SAYS(plan_error({"a=10.0.0.256"}), "bad address '10.0.0.256'");
  EXPECT_SAYS(plan_error({"a=10.0.0.1,,10.0.0.2"}), "bad address ''");
  EXPECT_SAYS(plan_error({"a=127.0.0.1"}), "127.0.0.1 cannot belong");
  EXPECT_SAYS(plan_error({"a=10.0.0.1", "a=10.0.0.2"}), "'a' is given twice");
  EXPECT_SAYS(plan_error({"a=10.0.0.1", "b=10.0.0.2,10.0.0.1"}),
              "10.0.0.1 is claimed twice: by partition 'a' and by 'b'");
  EXPECT_SAYS(plan_error({"a=10.0.0.1,::ffff:10.0.0.1"}), "claimed twice");
  std::vector<std::string> many;
  for (int i = 0; i < 65; ++i) many.push_back("p" + std::to_string(i) + "=10.1.0.1");
  EXPECT_SAYS(plan_error(many), "at most 64");
}

TEST_F(WindowTest, ExistingDirectories) {
  fs::create_directory(dir);
  std::ofstream(dir + "/mine") << "precious";
  EXPECT_SAYS(error_of([&] { create_window(dir, two()); }), "not empty");
  EXPECT_SAYS(error_of([&] { destroy_window(dir); }), "not a window");
  EXPECT_TRUE(fs::exists(dir + "/mine"));
  fs::remove(dir + "/mine");
  create_window(dir, two());  // an empty directory is fine
  EXPECT_SAYS(error_of([&] { create_window(dir, two()); }), "not empty");
  std::ofstream(dir + "/mine") << "precious";
  EXPECT_SAYS(error_of([&] { destroy_window(dir); }), "mine is not a file of Shunt");
  EXPECT_TRUE(fs::exists(dir + "/table"));
}

TEST_F(WindowTest, PathsThatCannotBeWindows) {
  EXPECT_SAYS(load_error(), "no such directory");
  EXPECT_SAYS(error_of([&] { create_window(base + "/x/y", two()); }), "cannot make");
  EXPECT_SAYS(error_of([&] { create_window(std::string(69, 'd'), two()); }), "69 bytes");
  EXPECT_SAYS(error_of([&] { load_table(""); }), "no window given");
  std::ofstream(dir) << "a file";
  EXPECT_SAYS(load_error(), "not a directory");
  EXPECT_SAYS(error_of([&] { create_window(dir, two()); }), "not a directory");
}

TEST_F(WindowTest, ForeignDamagedAndOtherVersionsAreToldApart) {
  create_window(dir, two());
  fs::remove(dir + "/table");
  EXPECT_SAYS(load_error(), "no file 'table'");
  std::ofstream(dir + "/table") << "hello";
  EXPECT_SAYS(load_error(), "something else");
  auto bytes = wire::encode_table(two());
  const auto write = [&] {
    std::ofstream out(dir + "/table", std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  bytes[8] = 99;
  write();
  EXPECT_SAYS(load_error(), "another version");
  bytes = wire::encode_table(two());
  bytes[70] = 99;
  write();
  EXPECT_SAYS(load_error(), "damaged");
  fs::remove(dir + "/table");
  ASSERT_EQ(0, ::mkfifo((dir + "/table").c_str(), 0644));
  EXPECT_SAYS(load_error(), "not a regular file");
}

TEST_F(WindowTest, SectionOfAnotherWindowIsRefusedAndShownAsUnknown) {
  create_window(dir, two());
  const Backing window = open_backing(dir);
  Backing other = open_backing(dir);
  ++other.table.generation;
  EXPECT_SAYS(error_of([&] { SectionFile(other, other.table.partitions[0], Access::kReadOnly); }),
              "not the section");
  fs::resize_file(dir + "/a.section", 4096);
  EXPECT_SAYS(error_of([&] { SectionFile(window, window.table.partitions[0], Access::kReadOnly); }),
              "damaged");
  EXPECT_EQ(DriverCondition::kUnknown, read_status(dir).partitions[0].driver);
  destroy_window(dir);  // a damaged window can still be removed
  EXPECT_FALSE(fs::exists(dir));
}

TEST_F(WindowTest, UnknownPartitionNamesListTheKnown) {
  create_window(dir, two());
  const Backing window = open_backing(dir);
  EXPECT_SAYS(error_of([&] { require_partition(dir, window.table, "c"); }),
              "no partition 'c': it has a, b");
}

TEST_F(WindowTest, LockedSectionIsADriverAndKeepsTheWindow) {
  create_window(dir, two());
  const Backing window = open_backing(dir);
  SectionFile driver(window, window.table.partitions[0], Access::kReadWrite);
  SectionFile watcher(window, window.table.partitions[0], Access::kReadOnly);
  EXPECT_FALSE(watcher.locked());
  ASSERT_TRUE(driver.try_lock());
  EXPECT_TRUE(watcher.locked());
  SectionFile second(window, window.table.partitions[0], Access::kReadWrite);
  EXPECT_FALSE(second.try_lock());
  driver.writable()->header.life.pid.store(4711);
  EXPECT_SAYS(error_of([&] { destroy_window(dir); }), "'a' runs (pid 4711)");
  EXPECT_TRUE(fs::exists(dir + "/b.section"));
}

TEST_F(WindowTest, SectionTruncatedUnderItsReaderReadsAsZeros) {
  create_window(dir, two());
  const Backing window = open_backing(dir);
  SectionFile file(window, window.table.partitions[0], Access::kReadOnly);
  fs::resize_file(dir + "/a.section", 0);
  EXPECT_EQ(0u, file.section()->lanes[1].generation.load());
  EXPECT_EQ(0, *layout::section_data(file.section(), file.geometry().section_bytes - 1));
}

// In a mount namespace of its own, so that nothing is left mounted.
TEST_F(WindowTest, FullFileSystemLeavesNothingHalfMade) {
  fs::create_directory(dir);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", dir.c_str(), "tmpfs", 0, "size=1m") != 0) {
      ::_exit(77);
    }
    const std::string window = dir + "/in";
    const std::string error = error_of([&] { create_window(window, two(4 << 20)); });
    const bool told = error.find("no space left") != std::string::npos;
    const bool clean = !fs::exists(window) && fs::is_empty(dir);
    ::_exit(told && clean ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(child, ::waitpid(child, &status, 0));
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "may not mount here";
  EXPECT_EQ(0, WEXITSTATUS(status));
}

}  // namespace
}  // namespace shunt::window
