// Doorbells that are interrupts: when two drivers count on them, with devices that are made up.
#include "driver/doorbells/ivshmem_doorbell.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/support_test.h"

namespace shunt::driver {
namespace {

constexpr std::uint64_t kThere = layout::kIvshmemThere;
constexpr std::uint64_t kHeard = layout::kIvshmemHeard;

class FakeDevice;
// What joins devices of one server: who rings what.
struct Server {
  std::map<std::uint32_t, FakeDevice*> devices;  // by number
  std::uint32_t deaf = 0;                        // no ring reaches the device of this number
};

class FakeDevice : public InterruptDevice {
 public:
  FakeDevice(Server& server, std::uint16_t number, bool there = true)
      : server_(server), number_(number), there_(there) {
    server_.devices[number] = this;
  }
  ~FakeDevice() override {
    const auto own = server_.devices.find(number_);
    if (own != server_.devices.end() && own->second == this)
      server_.devices.erase(own);  // else another one has the number by now
  }
  std::uint16_t add_vector() override {
    vectors_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return static_cast<std::uint16_t>(vectors_.size() - 1);
  }
  int rung(std::uint16_t vector) const override { return vectors_[vector].get(); }
  void tick() override {}
  std::optional<std::uint16_t> number() const override {
    return there_ ? std::optional(number_) : std::nullopt;
  }
  int ring(std::uint16_t number, std::uint16_t vector) override {
    ++rings;
    const auto found = server_.devices.find(number);
    if (found == server_.devices.end() || number == server_.deaf) return 0;
    if (vector < found->second->vectors_.size()) ::eventfd_write(found->second->rung(vector), 1);
    return 0;
  }
  void appear() { there_ = true; }
  int rings = 0;

 private:
  Server& server_;
  const std::uint16_t number_;
  bool there_;
  std::vector<window::UniqueFd> vectors_;
};

using Word = std::atomic<std::uint64_t>;

// A driver's side of a doorbell, without the driver.
struct Side {
  Side(std::shared_ptr<InterruptDevice> device, Word& own, const Word& peer)
      : bell(std::move(device), "peer", {&own, &peer}, poller, [this] { ++rings; }) {}
  void take() {
    while (poller.wait(std::chrono::microseconds{0}) > 0) bell.drain();
  }
  void turn() {
    take();
    bell.tick();
  }
  Poller poller;
  int rings = 0;
  IvshmemDoorbell bell;
};

class Interrupts : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kA = 7;  // numbers
  static constexpr std::uint16_t kB = 65535;
  std::unique_ptr<Side> make_a() { return std::make_unique<Side>(a_device, a_word, b_word); }
  std::unique_ptr<Side> make_b() { return std::make_unique<Side>(b_device, b_word, a_word); }
  static bool both(const Side& a, const Side& b) { return a.bell.present() && b.bell.present(); }
  static void turns(Side& a, Side& b, int n = 3) {
    for (int i = 0; i < n; ++i) {
      a.turn();
      b.turn();
    }
  }
  Server server;
  std::shared_ptr<FakeDevice> a_device = std::make_shared<FakeDevice>(server, kA);
  std::shared_ptr<FakeDevice> b_device = std::make_shared<FakeDevice>(server, kB);
  Word a_word{0};
  Word b_word{0};
};

TEST_F(Interrupts, EachHearsTheOtherBeforeItCountsOnIt) {
  const auto a = make_a();
  a->turn();
  EXPECT_FALSE(a->bell.present());
  EXPECT_EQ(ENOTCONN, a->bell.ring());
  EXPECT_EQ(kThere | kA << 16, a_word.load());
  const auto b = make_b();
  EXPECT_EQ(layout::DoorbellKind::kIvshmem, b->bell.kind());
  b->bell.tick();  // rings a
  EXPECT_FALSE(b->bell.present());
  a->take();  // has heard, rings b
  EXPECT_FALSE(a->bell.present()) << "b has not said that it hears";
  EXPECT_EQ(kThere | kHeard | kA << 16, a_word.load());
  b->take();
  EXPECT_TRUE(both(*a, *b));
  turns(*a, *b);
  const int a_rings = a_device->rings;
  const int b_rings = b_device->rings;
  turns(*a, *b, 50);
  EXPECT_EQ(a_rings, a_device->rings) << "two that have heard each other are silent";
  EXPECT_EQ(b_rings, b_device->rings);
  const int before = b->rings;
  EXPECT_EQ(0, a->bell.ring());
  b->take();
  EXPECT_EQ(before + 1, b->rings);
}

TEST_F(Interrupts, OneWayIsNotEnough) {
  server.deaf = kB;
  const auto a = make_a();
  const auto b = make_b();
  turns(*a, *b, 20);
  EXPECT_GT(a->rings, 0);
  EXPECT_FALSE(a->bell.present() || b->bell.present());
  server.deaf = 0;
  turns(*a, *b);
  EXPECT_TRUE(both(*a, *b));
}

TEST_F(Interrupts, ADeviceMayComeLater) {
  a_device = std::make_shared<FakeDevice>(server, kA, false);
  const auto a = make_a();
  const auto b = make_b();
  turns(*a, *b);
  EXPECT_EQ(0u, a_word.load());
  EXPECT_FALSE(a->bell.present() || b->bell.present());
  a_device->appear();
  turns(*a, *b);
  EXPECT_TRUE(both(*a, *b));
}

TEST_F(Interrupts, APeerThatStartsAgainIsHeardAgain) {
  const auto a = make_a();
  auto b = make_b();
  turns(*a, *b);
  ASSERT_TRUE(both(*a, *b));
  b.reset();
  b_word = 0;  // as a driver's life begins
  EXPECT_FALSE(a->bell.present());
  a->turn();
  EXPECT_EQ(kThere | kA << 16, a_word.load()) << "nothing is heard of one that has gone";
  b_device = std::make_shared<FakeDevice>(server, 9);  // another number, as after another boot
  b = make_b();
  turns(*a, *b);
  EXPECT_TRUE(both(*a, *b));
}

TEST_F(Interrupts, APeerThatStartsAgainUnnoticedIsRungUntilItHears) {
  const auto a = make_a();
  auto b = make_b();
  turns(*a, *b);
  b.reset();
  b_word = 0;
  b_device = std::make_shared<FakeDevice>(server, kB);
  b = make_b();
  b->bell.tick();  // before a has looked
  EXPECT_FALSE(b->bell.present());
  EXPECT_FALSE(a->bell.present());
  turns(*a, *b);
  EXPECT_TRUE(both(*a, *b));
}

TEST_F(Interrupts, WhoRangIsKnownByTheVector) {
  Word a_for_c{0};
  Word c_word{0};
  const auto a = make_a();
  Side a_c(a_device, a_for_c, c_word);
  const auto b = make_b();
  turns(*a, *b);
  a_c.turn();
  ASSERT_TRUE(both(*a, *b));
  EXPECT_EQ(kThere | kA << 16 | 1, a_for_c.load());
  c_word = kThere | kHeard | 9 << 16;  // says that it hears us, and was never heard
  b->bell.ring();
  a->take();
  a_c.turn();
  EXPECT_FALSE(a_c.bell.present());
  EXPECT_EQ(0, a_c.rings);
}

TEST_F(Interrupts, APeersWordIsBelievedInNothing) {
  const auto a = make_a();
  const auto b = make_b();
  turns(*a, *b);
  for (const std::uint64_t lie : {~std::uint64_t{0}, std::uint64_t{1} << 63 | kThere | kHeard,
                                  kHeard, std::uint64_t{kB} << 16}) {
    b_word = lie;
    EXPECT_FALSE(a->bell.present()) << lie;
    EXPECT_EQ(ENOTCONN, a->bell.ring()) << lie;
  }
  b_word = kThere | kHeard | 1234 << 16 | 0xffff;  // nobody's
  EXPECT_FALSE(a->bell.present());
  EXPECT_EQ(0, a->bell.ring());
  a->bell.tick();
  a_word = ~std::uint64_t{0};
  turns(*a, *b);
  EXPECT_EQ(kThere | kHeard | kA << 16, a_word.load()) << "what others wrote over is mended";
  EXPECT_TRUE(both(*a, *b));
}

TEST_F(Interrupts, APeerThatRingsForNothingIsNotListenedToUntilTheNextTick) {
  const auto a = make_a();
  const auto b = make_b();
  turns(*a, *b);
  const auto ring_all_the_time = [&](bool news) {
    int heard = 0;
    for (std::uint32_t i = 0; i < 3 * IvshmemDoorbell::kVainMax; ++i) {
      b->bell.ring();
      heard += a->poller.wait(std::chrono::microseconds{0});
      if (news) a->bell.had_news();
      a->bell.drain();
    }
    return static_cast<std::uint32_t>(heard);
  };
  EXPECT_LE(ring_all_the_time(false), IvshmemDoorbell::kVainMax + 1);
  EXPECT_FALSE(a->bell.present());
  a->bell.tick();
  EXPECT_TRUE(a->bell.present());
  a->turn();
  ring_all_the_time(true);
  EXPECT_TRUE(a->bell.present()) << "rings that announce something are never too many";
}

class InterruptsOfADriver : public WindowFixture {
 protected:
  void SetUp() override { make_window(Kind::kDevice); }
};

TEST_F(InterruptsOfADriver, WithoutTheDeviceItRunsAndSaysSo) {
  const DriverProcess a(spec, "a", layout::NotifyMode::kInterrupt,
                        {"--doorbell", "b=vfio:ffff:ff:1f.7", "--doorbell", "c=vfio:FFFF:ff:1f.7"});
  EXPECT_TRUE(eventually([&] { return peer_status(status(1), "b").doorbell == "ivshmem"; }));
  EXPECT_FALSE(peer_status(status(1), "b").doorbell_present);
  EXPECT_EQ("ivshmem", peer_status(status(1), "c").doorbell);
}

}  // namespace
}  // namespace shunt::driver
