// What a device must be to give interrupts to a driver, and what is said of one that is not.
#include "driver/doorbells/vfio_device.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "window/error.h"

namespace shunt::driver {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAddress = "0000:00:10.0";

// A guest's /sys and /dev with one device that is all right as far as files can tell.
class VfioDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/shunt-vfio-XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(pattern));
    base = pattern;
    folder = base / "sys/bus/pci/devices" / kAddress;
    fs::create_directories(folder);
    fs::create_directories(base / "dev/vfio");
    write("vendor", "0x1af4");
    write("device", "0x1110");
    write("resource1", "");
    fs::create_symlink("../../../kernel/iommu_groups/3", folder / "iommu_group");
    fs::create_symlink("../../../../bus/pci/drivers/vfio-pci", folder / "driver");
  }
  void TearDown() override { fs::remove_all(base); }
  void write(const char* name, const char* text) { std::ofstream(folder / name) << text << '\n'; }
  // What the first tick throws; "" if it is to be tried again.
  std::string never() {
    VfioDevice device(kAddress, {(base / "sys").string(), (base / "dev").string()});
    device.add_vector();
    try {
      device.tick();
    } catch (const window::WindowError& e) {
      return e.what();
    }
    EXPECT_FALSE(device.number());
    EXPECT_EQ(ENOTCONN, device.ring(1, 0));
    device.tick();
    return "";
  }
  void expect_never(const std::string& part) {
    const std::string said = never();
    EXPECT_NE(std::string::npos, said.find(part)) << said;
    EXPECT_NE(std::string::npos, said.find(kAddress)) << said;
  }
  fs::path base;
  fs::path folder;
};

TEST_F(VfioDevices, Addresses) {
  for (const char* text : {"", "0000:00:10", "0000:00:10.8", "../../../../x", "0000:00:10.0 "}) {
    EXPECT_THROW(VfioDevice{text}, window::WindowError) << text;
  }
  EXPECT_EQ("0000:00:1f.7", VfioDevice::require_address("00:1F.7"));
}

TEST_F(VfioDevices, WhatCanNeverWorkIsToldAtStart) {
  write("device", "0x1000");
  expect_never("0x1af4:0x1000, not ivshmem-doorbell");
  write("device", "0x1110");
  fs::remove(folder / "resource1");
  expect_never("ivshmem-plain");
  write("resource1", "");
  fs::remove(folder / "iommu_group");
  expect_never("intel-iommu,intremap=on");
}

TEST_F(VfioDevices, WhatMayComeRightIsTriedAgain) {
  EXPECT_EQ("", never()) << "no /dev/vfio/vfio: a module is missing";
  std::ofstream(base / "dev/vfio/vfio") << "";
  EXPECT_EQ("", never()) << "no group";
  std::ofstream(base / "dev/vfio/3") << "";
  EXPECT_EQ("", never()) << "they are no devices";
  fs::remove(folder / "driver");
  EXPECT_EQ("", never()) << "bound to nothing";
  fs::create_symlink("../../../../bus/pci/drivers/other", folder / "driver");
  EXPECT_EQ("", never()) << "bound to another driver";
  fs::remove_all(folder);
  EXPECT_EQ("", never()) << "not there";
}

TEST_F(VfioDevices, AnotherDeviceInTheSlotLaterIsNoReasonToEnd) {
  fs::remove(folder / "driver");
  VfioDevice device(kAddress, {(base / "sys").string(), (base / "dev").string()});
  device.add_vector();
  device.tick();
  write("device", "0x1000");
  const auto end = VfioDevice::Clock::now() + std::chrono::milliseconds(150);
  while (VfioDevice::Clock::now() < end) EXPECT_NO_THROW(device.tick());
  EXPECT_FALSE(device.number());
}

}  // namespace
}  // namespace shunt::driver
