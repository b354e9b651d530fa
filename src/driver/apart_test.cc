// Drivers that share a device and nothing else: each has a runtime directory and a kernel of its own, as far as it can
// tell. No doorbell reaches the other.
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "driver/support_test.h"
#include "window/runtime_directory.h"
#include "window/section_file.h"

namespace shunt::driver {
namespace {

using namespace std::chrono_literals;

class Apart : public WindowFixture {
 protected:
  void SetUp() override { make_window(Kind::kDevice); }
  void TearDown() override {
    ::unsetenv("SHUNT_TEST_BOOT_ID");
    WindowFixture::TearDown();
  }
  std::unique_ptr<DriverProcess> start(const std::string& partition, layout::NotifyMode notify,
                                       const std::string& kernel = "") {
    ::setenv("SHUNT_RUNTIME_DIR", (base + "/" + partition).c_str(), 1);
    ::setenv("SHUNT_TEST_BOOT_ID", (kernel.empty() ? partition : kernel).c_str(), 1);
    return std::make_unique<DriverProcess>(spec, partition, notify,
                                           std::vector<std::string>{"--dead-after", "3000"});
  }
  std::string place(const std::string& partition) {
    ::setenv("SHUNT_RUNTIME_DIR", (base + "/" + partition).c_str(), 1);
    return window::runtime_directory(spec);
  }
};

TEST_F(Apart, TheyTalkWithoutAnyDoorbell) {
  const auto a = start("a", layout::NotifyMode::kInterrupt);
  const auto b = start("b", layout::NotifyMode::kInterrupt);
  EXPECT_NE(place("a"), place("b"));
  FakeListener listener;
  const std::string at_a = place("a");
  EXPECT_TRUE(eventually([&] {  // a has no doorbell that would tell it of b, and looks by itself
    return FakeProgram(at_a).ask(endpoint(kAddressB, 9)) ==
           static_cast<std::uint32_t>(wire::Reason::kNoListener);
  }));
  FakeProgram program(at_a);
  ASSERT_EQ(kQueued, program.ask(listener.address));
  FakeListener::Arrived arrived = listener.accept();
  expect_joined(program, arrived);
  const window::Backing backing = window::open_backing(spec);
  const window::SectionFile of_a(backing, backing.table.partitions[0], window::Access::kReadOnly);
  EXPECT_EQ(0u, of_a.section()->header.life.doorbells.load());
  EXPECT_EQ(0u, of_a.section()->header.counters.doorbells_rung.load());
}

TEST_F(Apart, APlaceThatAnotherKernelLeftIsTakenAfterItsHeartWasWatched) {
  auto a = start("a", layout::NotifyMode::kPoll);
  a->kill_hard();
  const auto begin = std::chrono::steady_clock::now();
  a = start("a", layout::NotifyMode::kPoll, "ee");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 3s);
  a->kill_hard();
  const auto again = std::chrono::steady_clock::now();
  a = start("a", layout::NotifyMode::kPoll, "ee");
  EXPECT_LT(std::chrono::steady_clock::now() - again, 3s) << "on its own kernel the lock has told";
}

}  // namespace
}  // namespace shunt::driver
