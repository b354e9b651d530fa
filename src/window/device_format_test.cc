// Windows on files, which stand for every device: made, refused, cut short, used, unmade.
#include "window/device_format.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "window/boot_id.h"
#include "window/hearts.h"
#include "window/runtime_directory.h"
#include "window/section_file.h"
#include "window/status.h"
#include "window/table_file.h"
#include "window/window_test_util.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kLeast = 54 * kMiB;

class DeviceWindowTest : public WindowFixture {
 protected:
  void SetUp() override {
    WindowFixture::SetUp();
    device = base + "/w.img";
    make_file(kLeast);
    ::setenv("SHUNT_RUNTIME_DIR", (base + "/run").c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("SHUNT_RUNTIME_DIR");
    WindowFixture::TearDown();
  }
  void make_file(std::uint64_t size) {
    std::ofstream(device, std::ios::trunc).close();
    fs::resize_file(device, size);
  }
  static DevicePlan plan(std::uint64_t granule = layout::kGranuleDefault) {
    DevicePlan p;
    p.table = plan_table({parse_partition("a=10.77.0.1"), parse_partition("b=10.77.0.2")}, {});
    p.granule = granule;
    return p;
  }
  void create(bool force = false) { create_device_window(device, plan(), force); }
  std::string create_error(bool force = false) {
    return error_of([&] { create(force); });
  }
  std::string open_error() {
    return error_of([&] { open_backing(device); });
  }
  void poke(std::uint64_t at, char byte) {
    std::fstream out(device, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(at));
    out.put(byte);
  }
  bool same_content(const std::string& other) {
    return std::system(("cmp -s " + device + " " + other).c_str()) == 0;
  }

  std::string device;
};

// Plays the driver of partition 1: says that it is up, and perhaps beats.
class FakeDriver {
 public:
  FakeDriver(const std::string& device, bool beats, BootId boot)
      : backing_(open_backing(device)),
        file_(backing_, backing_.table.partitions[0], Access::kReadWrite) {
    layout::SectionLife& life = file_.writable()->header.life;
    life.generation.store(3);
    life.pid.store(4711);
    life.boot_id[0].store(boot[0]);
    life.boot_id[1].store(boot[1]);
    life.state.store(static_cast<std::uint32_t>(layout::DriverState::kUp));
    if (!beats) return;
    heart_ = std::thread([this, &life] {
      while (!stop_.load()) {
        life.heartbeat.fetch_add(1);
        std::this_thread::sleep_for(std::chrono::milliseconds{20});
      }
    });
  }
  ~FakeDriver() {
    stop_.store(true);
    if (heart_.joinable()) heart_.join();
  }
  SectionFile& file() { return file_; }

 private:
  Backing backing_;
  SectionFile file_;
  std::atomic<bool> stop_{false};
  std::thread heart_;
};

constexpr BootId kOtherKernel{1, 2};

TEST_F(DeviceWindowTest, CreateOpenShowDestroy) {
  create();
  EXPECT_EQ(kLeast, fs::file_size(device));
  const Backing window = open_backing(device);
  EXPECT_EQ(BackingKind::kFile, window.kind());
  EXPECT_EQ(device, window.spec);
  EXPECT_EQ("b", window.table.partitions[1].name());
  EXPECT_EQ(4u, window.geometry.areas);
  EXPECT_EQ(base + "/run", fs::path(window.directory).parent_path());
  EXPECT_EQ(HeadState::kSame, window.look_at_head());

  const WindowStatus status = read_status(device);
  ASSERT_TRUE(status.device);
  EXPECT_EQ(kLeast, status.device->size);
  EXPECT_EQ(4u, status.device->areas);
  EXPECT_EQ(6 * kMiB, status.device->area_stride);
  ASSERT_EQ(2u, status.partitions.size());
  EXPECT_EQ(DriverCondition::kDown, status.partitions[1].driver);
  ASSERT_TRUE(status.partitions[0].arena);

  destroy_device_window(device);
  EXPECT_EQ(HeadState::kGone, window.look_at_head());
  EXPECT_EQ(kLeast, fs::file_size(device));
  EXPECT_SAYS(open_error(), "holds no window");
  create();  // nothing is left there
}

// Drivers ask whether they are to leave: a word that somebody scribbles is no reason.
TEST_F(DeviceWindowTest, ADamagedHeadIsNotAnotherWindow) {
  create();
  const Backing window = open_backing(device);
  const Mapping head = window.device->map(0, layout::kDeviceHeadBytes, Access::kReadWrite);
  auto& superblock = *reinterpret_cast<layout::DeviceSuperblock*>(head.data());
  for (std::atomic<std::uint64_t>* word : {&superblock.magic, &superblock.generation}) {
    const std::uint64_t good = word->load();
    for (const std::uint64_t lie : {std::uint64_t{0}, ~good, good + 1}) {
      word->store(lie);
      EXPECT_EQ(HeadState::kDamaged, window.look_at_head()) << lie;
    }
    word->store(good);
    EXPECT_EQ(HeadState::kSame, window.look_at_head());
  }
  superblock.magic.store(0);  // a making that was cut short, at each of its steps
  std::memset(head.data(), 0, sizeof superblock);
  EXPECT_EQ(HeadState::kDamaged, window.look_at_head());
  create(true);
  EXPECT_EQ(HeadState::kGone, window.look_at_head());
}

TEST_F(DeviceWindowTest, SectionsAreWhereTheGeometrySays) {
  create();
  const Backing window = open_backing(device);
  SectionFile b(window, window.table.partitions[1], Access::kReadWrite);
  b.writable()->header.life.pid.store(0x11223344);
  // All of the section's range is mapped.
  layout::section_data(b.writable(), window.geometry.section_stride - 1)[0] = 0x5a;
  SectionFile looked(window, window.table.partitions[1], Access::kReadOnly);
  EXPECT_EQ(nullptr, looked.writable());
  EXPECT_EQ(0x11223344u, looked.section()->header.life.pid.load());
  std::ifstream in(device, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(kLeast - 1));
  EXPECT_EQ(0x5a, in.get());
}

TEST_F(DeviceWindowTest, LocksOfSectionsAreIndependent) {
  create();
  const Backing one = open_backing(device);
  SectionFile a(one, one.table.partitions[0], Access::kReadWrite);
  SectionFile b(one, one.table.partitions[1], Access::kReadWrite);
  SectionFile again(one, one.table.partitions[0], Access::kReadWrite);
  ASSERT_TRUE(a.try_lock());
  EXPECT_FALSE(b.locked());
  EXPECT_TRUE(again.locked());
  EXPECT_FALSE(again.try_lock());
  EXPECT_TRUE(b.try_lock());
}

TEST_F(DeviceWindowTest, SizeAndGranule) {
  make_file(64 * kMiB);
  DevicePlan p = plan(4096);
  p.size = 40 * kMiB + 5;
  create_device_window(device, p, false);
  const Backing window = open_backing(device);
  EXPECT_EQ(40 * kMiB, window.geometry.size);
  EXPECT_EQ(4096u, window.geometry.granule);
  EXPECT_EQ(0u, window.geometry.area_stride % 4096);
  SectionFile(window, window.table.partitions[1], Access::kReadWrite);
  p.size = 65 * kMiB;
  const auto error = [&] { return error_of([&] { create_device_window(device, p, true); }); };
  EXPECT_SAYS(error(), "is more than");
  p.size = 0;
  for (const std::uint64_t granule : {0ull, 2048ull, 6ull << 20, 1ull << 31}) {
    p.granule = granule;
    EXPECT_SAYS(error(), "bad granule");
  }
  EXPECT_EQ(HeadState::kSame, window.look_at_head());
}

TEST_F(DeviceWindowTest, TooSmallSaysHowMuchIsNeeded) {
  make_file(kLeast - 4096);
  EXPECT_SAYS(create_error(), "needs 56623104 bytes (54 MiB), and 56619008 are there");
  EXPECT_SAYS(create_error(), "--granule 4096 needs less");
  make_file(0);
  EXPECT_SAYS(create_error(), "too small");
  EXPECT_SAYS(open_error(), "too small, or truncated: it has 0 bytes");
}

TEST_F(DeviceWindowTest, WhatHoldsSomethingIsNotOverwritten) {
  for (const std::uint64_t at : {std::uint64_t{0}, kLeast - 1, 20 * kMiB + 4097}) {
    make_file(kLeast);
    poke(at, 'x');
    fs::copy_file(device, base + "/copy", fs::copy_options::overwrite_existing);
    EXPECT_SAYS(create_error(), "is not empty");
    EXPECT_TRUE(same_content(base + "/copy"));
  }
  create(true);
  fs::copy_file(device, base + "/copy", fs::copy_options::overwrite_existing);
  EXPECT_SAYS(create_error(), "holds a window with 2 partitions already");
  EXPECT_TRUE(same_content(base + "/copy"));
  const Backing before = open_backing(device);
  create(true);
  EXPECT_EQ(HeadState::kGone, before.look_at_head());
  EXPECT_NE(before.table.generation, open_backing(device).table.generation);
}

// The step list of a window with two partitions: magic, two sections, head, magic.
TEST_F(DeviceWindowTest, CutShortAfterAnyStepItIsNoWindow) {
  constexpr int kSteps = 5;
  create();  // so that the first step has a window to take away
  for (int steps = 1; steps <= kSteps; ++steps) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int done = 0;
      create_device_window(device, plan(), true, [&] {
        if (++done == steps) ::_exit(40 + steps);
      });
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(child, ::waitpid(child, &status, 0));
    ASSERT_EQ(40 + steps, WEXITSTATUS(status));
    if (steps < kSteps) {
      EXPECT_SAYS(open_error(), "its making was cut short") << steps;
      EXPECT_SAYS(error_of([&] { read_status(device); }), "holds no window");
      EXPECT_SAYS(create_error(), "--force") << steps;
    } else {
      EXPECT_EQ("no error", open_error());
    }
  }
}

TEST_F(DeviceWindowTest, TwoMakersAtOnce) {
  const UniqueFd other(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(try_lock(other.get(), {0, 1}));
  EXPECT_SAYS(create_error(), "somebody else makes a window");
}

TEST_F(DeviceWindowTest, ADriverOfThisKernelKeepsTheWindow) {
  create();
  FakeDriver driver(device, false, boot_id());
  ASSERT_TRUE(driver.file().try_lock());
  EXPECT_SAYS(
      error_of([&] { destroy_device_window(device); }),
      "in use and not destroyed: the driver of partition 'a' runs (pid 4711 of this system)");
  EXPECT_SAYS(create_error(true), "in use and not made again");
  EXPECT_EQ("no error", open_error());
  EXPECT_EQ(DriverCondition::kStalled, read_status(device).partitions[0].driver);
}

TEST_F(DeviceWindowTest, AHeartOfAnotherKernelKeepsTheWindow) {
  create();
  {
    const FakeDriver driver(device, true, kOtherKernel);
    EXPECT_SAYS(error_of([&] { destroy_device_window(device); }), "(pid 4711 of another system)");
    EXPECT_SAYS(create_error(true), "of another system");
    const PartitionStatus a = read_status(device).partitions[0];
    EXPECT_EQ(DriverCondition::kUp, a.driver);
    EXPECT_EQ(4711u, a.pid);
    EXPECT_EQ(0u, a.heartbeat_age_ms);
  }
  const PartitionStatus silent = read_status(device).partitions[0];
  EXPECT_EQ(DriverCondition::kStalled, silent.driver);
  EXPECT_EQ(500u, silent.heartbeat_age_ms);
  destroy_device_window(device);  // its kernel is gone
}

TEST_F(DeviceWindowTest, ADriverOfThisKernelThatWasKilledIsDownAtOnce) {
  create();
  { const FakeDriver driver(device, false, boot_id()); }
  EXPECT_EQ(DriverCondition::kDown, read_status(device).partitions[0].driver);
  const auto begin = std::chrono::steady_clock::now();
  destroy_device_window(device);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kWatchLong);
}

TEST_F(DeviceWindowTest, ADamagedSectionIsUnknownAndCanBeRemoved) {
  create();
  poke(2 * kMiB, 'x');
  const WindowStatus status = read_status(device);
  EXPECT_EQ(DriverCondition::kUnknown, status.partitions[0].driver);
  EXPECT_SAYS(status.partitions[0].unknown_because, "section of partition 'a'");
  EXPECT_EQ(DriverCondition::kDown, status.partitions[1].driver);
  destroy_device_window(device);
}

// What a guest's namespace calls offset 0 lies behind the info block in the host's file.
TEST_F(DeviceWindowTest, WindowInAnNvdimmsFile) {
  make_file(kLeast + 2 * kMiB);
  std::fstream out(device, std::ios::in | std::ios::out | std::ios::binary);
  char block[128] = "NVDIMM_DAX_INFO";
  const std::uint64_t offset = 2 * kMiB;
  std::memcpy(block + 56, &offset, sizeof offset);
  out.seekp(4096);
  out.write(block, sizeof block);
  out.close();
  create();
  EXPECT_EQ(2 * kMiB, open_backing(device).device->base);
  char magic[8];
  std::ifstream in(device, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  in.read(magic, sizeof magic);
  EXPECT_EQ(0, std::memcmp(magic, "$SHUNTW1", 8));
  // The guest's view: the same bytes from there on.
  std::system(("tail -c +2097153 " + device + " > " + base + "/guest").c_str());
  EXPECT_EQ(open_backing(device).table.generation, open_backing(base + "/guest").table.generation);
  destroy_device_window(device);
  in.seekg(4096);
  in.read(magic, sizeof magic);
  EXPECT_EQ(0, std::memcmp(magic, "NVDIMM_D", 8));  // the namespace is not ours to remove
}

TEST_F(DeviceWindowTest, TruncatedBeforeItIsOpened) {
  create();
  fs::resize_file(device, kLeast - 1);
  EXPECT_SAYS(open_error(), "is truncated: the window on it was made with 56623104 bytes");
  EXPECT_SAYS(error_of([&] { destroy_device_window(device); }), "is truncated");
  EXPECT_EQ(kLeast - 1, fs::file_size(device));
}

TEST_F(DeviceWindowTest, TruncatedWhileItIsOpen) {
  create();
  const Backing window = open_backing(device);
  SectionFile own(window, window.table.partitions[0], Access::kReadWrite);
  const SectionFile other(window, window.table.partitions[1], Access::kReadOnly);
  EXPECT_EQ(HeadState::kSame, window.look_at_head());
  fs::resize_file(device, 0);
  EXPECT_EQ(HeadState::kGone, window.look_at_head());
  EXPECT_EQ(0u, other.section()->lanes[0].generation.load());
  own.writable()->header.life.heartbeat.store(1);  // no SIGBUS
}

TEST_F(DeviceWindowTest, RuntimeDirectoryNamesTheWindow) {
  create();
  const Backing window = open_backing(device);
  write_runtime_directory(window);
  write_runtime_directory(window);  // the second driver on this kernel
  const wire::PartitionTable table = load_table(window.directory).table;
  EXPECT_EQ(wire::kTableAreasFromDriver, table.flags);
  EXPECT_EQ(6 * kMiB, table.area_map_bytes);
  EXPECT_EQ(window.table.generation, table.generation);
  EXPECT_EQ(0u, window.table.flags);
  const Backing again = open_backing(window.directory);
  EXPECT_EQ(device, again.spec);
  EXPECT_EQ(window.directory, again.directory);
  EXPECT_EQ(::geteuid(), again.owner);
  EXPECT_EQ(window.directory, read_status(window.directory).directory);
  EXPECT_EQ(fs::perms(0755), fs::status(window.directory).permissions());
  destroy_device_window(device);
  EXPECT_FALSE(fs::exists(window.directory));
}

TEST_F(DeviceWindowTest, RuntimeDirectoriesThatCannotBeUsed) {
  create();
  const Backing window = open_backing(device);
  ::setenv("SHUNT_RUNTIME_DIR", (base + "/none/run").c_str(), 1);
  EXPECT_SAYS(error_of([&] { write_runtime_directory(open_backing(device)); }),
              "SHUNT_RUNTIME_DIR");
  ::setenv("SHUNT_RUNTIME_DIR", (base + "/" + std::string(60, 'x')).c_str(), 1);
  EXPECT_SAYS(error_of([&] { write_runtime_directory(open_backing(device)); }), "at most 68");
  fs::create_directories(window.directory);
  fs::permissions(window.directory, fs::perms::all);
  EXPECT_SAYS(error_of([&] { write_runtime_directory(window); }), "only you or root can change");
  fs::permissions(window.directory, fs::perms::owner_all);
  write_runtime_directory(window);
  fs::remove(device);
  EXPECT_SAYS(error_of([&] { open_backing(window.directory); }), "is not there any more");
}

TEST_F(DeviceWindowTest, DifferentDevicesHaveDifferentRuntimeDirectories) {
  EXPECT_EQ(runtime_directory("pci:0000:00:04.0"), runtime_directory("pci:0000:00:04.0"));
  EXPECT_NE(runtime_directory("pci:0000:00:04.0"), runtime_directory("pci:0000:00:05.0"));
  EXPECT_EQ(runtime_directory(device), runtime_directory(base + "/./w.img"));
  EXPECT_EQ(std::string::npos, runtime_directory("pci:0000:00:04.0").find(':'));
  EXPECT_LE(fs::path(runtime_directory("/x/" + std::string(200, 'n'))).filename().string().size(),
            29u);
}

// In a mount namespace of its own, so that nothing is left mounted.
TEST_F(DeviceWindowTest, FullFileSystemIsSaidBeforeAnythingIsWritten) {
  fs::create_directory(dir);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", dir.c_str(), "tmpfs", 0, "size=3m") != 0) {
      ::_exit(77);
    }
    device = dir + "/w.img";
    make_file(kLeast);
    const bool told = create_error().find("no space left") != std::string::npos;
    const bool unchanged = open_error().find("holds no window") != std::string::npos;
    ::_exit(told && unchanged ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(child, ::waitpid(child, &status, 0));
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "may not mount here";
  EXPECT_EQ(0, WEXITSTATUS(status));
}

}  // namespace
}  // namespace shunt::window
