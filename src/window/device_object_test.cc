// Names of devices, and what is opened under them; PCI and DAX devices out of a tree made up here.
#include "window/device_object.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>

#include "window/window_test_util.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class DeviceObjectTest : public WindowFixture {
 protected:
  void SetUp() override {
    WindowFixture::SetUp();
    tree.sys = base + "/sys";
  }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
  }
  std::string line(const std::string& path) {
    std::string text;
    std::getline(std::ifstream(path), text);
    return text;
  }
  std::string pci(const std::string& name, const std::string& device = "0x1110") {
    const std::string folder = tree.sys + "/bus/pci/devices/" + name;
    write(folder + "/vendor", "0x1af4\n");
    write(folder + "/device", device + "\n");
    write(folder + "/enable", "0\n");
    write(folder + "/resource2", "");
    fs::resize_file(folder + "/resource2", 4 * kMiB);
    return folder;
  }
  // Any character device serves: nothing is mapped.
  void dax(const std::string& align) {
    write(tree.sys + "/bus/dax/devices/null/size", "1073741824\n");
    write(tree.sys + "/bus/dax/devices/null/align", align);
  }
  std::string file(std::uint64_t size) {
    write(base + "/w.img", "");
    fs::resize_file(base + "/w.img", size);
    return base + "/w.img";
  }
  DeviceObject open(const std::string& spec, Access access = Access::kReadWrite) {
    return open_object(spec, access, tree);
  }
  std::string open_error(const std::string& spec) {
    return error_of([&] { open(spec); });
  }
  void info_block(const std::string& path, std::uint64_t data_offset, std::uint64_t pages,
                  std::uint32_t start_pad = 0) {
    std::array<char, 4096> block{"NVDIMM_DAX_INFO"};
    std::memcpy(block.data() + 0x38, &data_offset, 8);
    std::memcpy(block.data() + 0x40, &pages, 8);
    std::memcpy(block.data() + 0x4c, &start_pad, 4);
    std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(4096);
    out.write(block.data(), block.size());
  }

  DeviceTree tree;
};

TEST_F(DeviceObjectTest, NamesOfDevices) {
  EXPECT_TRUE(names_device("pci:0000:00:04.0"));
  EXPECT_TRUE(names_device("/dev/dax0.0"));  // also while it is not there
  EXPECT_TRUE(names_device(file(0)));
  EXPECT_FALSE(names_device(base));
  EXPECT_FALSE(names_device(base + "/none"));
}

TEST_F(DeviceObjectTest, IvshmemIsEnabledAndItsSecondBarOpened) {
  const std::string folder = pci("0000:00:04.0");
  const DeviceObject object = open("pci:0000:00:04.0");
  EXPECT_EQ(BackingKind::kPciBar, object.kind);
  EXPECT_EQ("1", line(folder + "/enable"));
  EXPECT_EQ(4 * kMiB, object.size);
  EXPECT_EQ(0u, object.base);
  EXPECT_EQ(4096u, object.align);
  EXPECT_EQ("pci:0000:00:04.0", object.name);
  EXPECT_EQ("pci:0000:00:04.0", open("pci:00:04.0").name);
  EXPECT_EQ("pci:0000:0a:1f.7", canonical_name("pci:0A:1F.7"));
  EXPECT_EQ(fs::canonical(folder + "/resource2"),
            fs::read_symlink("/proc/self/fd/" + std::to_string(object.fd.get())));
}

TEST_F(DeviceObjectTest, EnabledIvshmemIsLeftAsItIs) {
  const std::string folder = pci("0000:00:04.0");
  write(folder + "/enable", "2\n");
  open("pci:0000:00:04.0", Access::kReadOnly);
  EXPECT_EQ("2", line(folder + "/enable"));
}

TEST_F(DeviceObjectTest, OtherPciNamesAreRefused) {
  pci("0000:00:05.0", "0x1000");
  EXPECT_SAYS(open_error("pci:0000:00:05.0"), "no ivshmem device: it is 1af4:1000");
  EXPECT_EQ("0", line(tree.sys + "/bus/pci/devices/0000:00:05.0/enable"));
  EXPECT_SAYS(open_error("pci:0000:00:06.0"), "there is no PCI device pci:0000:00:06.0");
  EXPECT_SAYS(open_error("pci:../../x"), "bad PCI device");
  for (const char* bad : {"pci:", "pci:0000:00:04.8", "pci:0000:00:0g.0", "pci:0000:00/04.0"}) {
    EXPECT_SAYS(open_error(bad), "bad PCI device");
  }
  fs::remove(pci("0000:00:04.0") + "/resource2");
  EXPECT_SAYS(open_error("pci:0000:00:04.0"), "resource2): No such file");
}

TEST_F(DeviceObjectTest, DeviceDaxTellsSizeAndAlignment) {
  dax("2097152\n");
  const DeviceObject object = open("/dev/null");
  EXPECT_EQ(BackingKind::kDeviceDax, object.kind);
  EXPECT_EQ(1024 * kMiB, object.size);
  EXPECT_EQ(2 * kMiB, object.align);
  EXPECT_EQ("/dev/null", object.name);
  dax("4096\n");
  EXPECT_EQ(4096u, open("/dev/null").align);
}

TEST_F(DeviceObjectTest, DeviceDaxOfLargeUnitsIsRefused) {
  dax("1073741824\n");
  EXPECT_SAYS(open_error("/dev/null"), "units of 1073741824 bytes");
  EXPECT_SAYS(open_error("/dev/null"), "-a 2M");
}

TEST_F(DeviceObjectTest, WhatCannotHoldAWindowIsRefused) {
  EXPECT_SAYS(open_error("/dev/null"), "no device DAX");
  EXPECT_SAYS(open_error(base), "a directory, not a device");
  EXPECT_SAYS(open_error("/dev/dax9.9"), "cannot open /dev/dax9.9: No such file");
  ASSERT_EQ(0, ::mkfifo((base + "/fifo").c_str(), 0600));
  EXPECT_SAYS(open_error(base + "/fifo"), "not mappable");
  if (::mknod((base + "/block").c_str(), S_IFBLK | 0600, makedev(7, 0)) == 0) {
    EXPECT_SAYS(open_error(base + "/block"), "is a block device");
  }
}

TEST_F(DeviceObjectTest, NoPermissionIsSaid) {
  const std::string path = file(kMiB);
  fs::permissions(path, fs::perms::owner_read);
  if (::geteuid() == 0) {
    EXPECT_EQ(kMiB, open(path).size);  // root may
    return;
  }
  EXPECT_SAYS(open_error(path), "no permission to open " + path);
  EXPECT_EQ(kMiB, open(path, Access::kReadOnly).size);
}

TEST_F(DeviceObjectTest, NamesAreCanonical) {
  const std::string path = file(4 * kMiB);
  fs::create_symlink(path, base + "/link");
  EXPECT_EQ(path, open(base + "/./link").name);
  EXPECT_EQ(base + "/none", canonical_name(base + "/x/../none"));
}

TEST_F(DeviceObjectTest, FileOfAnNvdimmBeginsBehindTheInfoBlock) {
  const std::string path = file(64 * kMiB);
  EXPECT_EQ(0u, open(path).base);
  info_block(path, 2 * kMiB, 0);
  EXPECT_EQ(2 * kMiB, open(path).base);
  EXPECT_EQ(62 * kMiB, open(path).size);
  info_block(path, 2 * kMiB, 60 * kMiB / 4096);  // labels at the end of the file
  EXPECT_EQ(60 * kMiB, open(path).size);
  info_block(path, 2 * kMiB, 1 << 20, 4096);  // more pages than there are
  EXPECT_EQ(2 * kMiB + 4096, open(path).base);
  EXPECT_EQ(62 * kMiB - 4096, open(path).size);
}

TEST_F(DeviceObjectTest, DamagedInfoBlockIsRefused) {
  const std::string path = file(64 * kMiB);
  for (const std::uint64_t offset :
       {std::uint64_t{0}, 64 * kMiB, ~std::uint64_t{0}, std::uint64_t{5}}) {
    info_block(path, offset, 0);
    EXPECT_SAYS(open_error(path), "info block that is damaged");
  }
}

TEST_F(DeviceObjectTest, FreshDescriptorsAreOfTheSameObjectUnderAnyName) {
  const std::string path = file(4 * kMiB);
  const DeviceObject object = open(path);
  fs::rename(path, base + "/moved");
  file(1);
  const UniqueFd fresh = object.fresh_descriptor();
  struct stat a {};
  struct stat b {};
  ASSERT_EQ(0, ::fstat(object.fd.get(), &a));
  ASSERT_EQ(0, ::fstat(fresh.get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

}  // namespace
}  // namespace shunt::window
