// Somebody who can write the window writes it. What a driver needs to go on with, it never reads there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstring>
#include <memory>
#include <vector>

#include "driver/carriers/relay_support_test.h"

namespace shunt::driver {
namespace {

class Scribbled : public Relay {
 protected:
  layout::Section* scribble_on(int of) {
    writable_.emplace_back(std::make_unique<window::SectionFile>(
        backing, backing.table.partitions[of], window::Access::kReadWrite));
    return writable_.back()->writable();
  }
  bool goes_on(int of) {
    const auto& heart = sections[of]->section()->header.life.heartbeat;
    const std::uint64_t before = heart.load();
    return eventually([&] { return heart.load() > before + 1; });
  }

 private:
  std::vector<std::unique_ptr<window::SectionFile>> writable_;
};

TEST_F(Scribbled, TheOwnNumberIsNotReadAgain) {
  scribble_on(1)->header.identity.partition = 0xffffffff;
  EXPECT_TRUE(WIFEXITED(a->stop()));
  EXPECT_TRUE(eventually([&] { return areas(1).peers_declared_dead == 1; }));
  EXPECT_TRUE(goes_on(1)) << "the lane of the dead is read anew";
}

// Whoever saw the wrong session has forgotten the connections; putting the right one back would have it read, and act
// on, what it has read before.
TEST_F(Scribbled, ASessionThatWasWrittenOverIsOver) {
  auto pair = connect();
  std::atomic<std::uint64_t>& word = scribble_on(0)->lanes[1].generation;
  const std::uint64_t session = word.load();
  word.store(session + 7);
  EXPECT_TRUE(read_bell(pair->program.bell.get(), ended).ended);
  EXPECT_TRUE(read_bell(pair->arrived.bell(), ended).ended);
  EXPECT_EQ(layout::kFateReset, pair->fate_a());
  EXPECT_EQ(layout::kFateReset, pair->fate_b());
  EXPECT_TRUE(eventually([&] { return word.load() == session + 1; }));
  pair->close_a();
  pair->close_b();
  EXPECT_TRUE(eventually([&] { return FakeProgram(dir).ask(listener->address) == kQueued; }));
  EXPECT_EQ(2u, sections[1]->section()->peers[0].arrivals.load()) << "that one, and ours before";
  EXPECT_TRUE(goes_on(0) && goes_on(1));
}

// A driver that was paused and replaced meanwhile. Its successor is played by hand.
TEST_F(Scribbled, WhoFindsAnotherDriversTokenKeepsStill) {
  auto pair = connect();
  pause_asleep(*a, sections[0]->section());
  layout::Section* own = scribble_on(0);
  const auto write = [&](std::uint64_t number) {
    own->header.life.token.store(99);
    own->header.life.heartbeat.store(1000000 + number);
  };
  own->lanes[1].generation.store(std::uint64_t{77} << 16);
  own->lanes[2].generation.store(std::uint64_t{77} << 16);
  own->acks[1].generation.store(78);
  own->header.life.generation.store(77);
  write(0);
  a->signal(SIGCONT);
  std::uint64_t beats = 1;
  EXPECT_TRUE(eventually([&] {
    write(++beats);
    siginfo_t gone{};
    return ::waitid(P_PID, static_cast<id_t>(a->pid()), &gone, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           gone.si_pid == a->pid();
  }));
  EXPECT_EQ(1, WEXITSTATUS(a->wait()));
  EXPECT_EQ(std::uint64_t{77} << 16, own->lanes[1].generation.load());
  EXPECT_EQ(std::uint64_t{77} << 16, own->lanes[2].generation.load());
  EXPECT_EQ(78u, own->acks[1].generation.load());
  EXPECT_EQ(77u, own->header.life.generation.load());
  EXPECT_EQ(1u, own->header.life.state.load());
}

// The window is made again under a driver that is paused: what it writes would have another meaning there.
TEST_F(Scribbled, WhoWakesUpInAnotherWindowWritesNothing) {
  auto pair = connect();
  pause_asleep(*b, sections[1]->section());
  pause_asleep(*a, sections[0]->section());
  const window::UniqueFd file(::open(spec.c_str(), O_WRONLY | O_CLOEXEC));
  const std::vector<std::uint8_t> unmade(
      layout::kDeviceHeadBytes);  // as the making of another one begins
  ASSERT_EQ(static_cast<ssize_t>(unmade.size()),
            ::pwrite(file.get(), unmade.data(), unmade.size(), 0));
  layout::Section* own = scribble_on(0);
  const std::size_t bytes = backing.geometry.arena_offset + backing.geometry.area_stride;
  std::memset(static_cast<void*>(own), 0x5a, bytes);
  const std::vector<std::uint8_t> before(bytes, 0x5a);
  pair->close_a();
  a->signal(SIGCONT);
  EXPECT_EQ(1, WEXITSTATUS(a->wait()));
  for (std::size_t i = 0; i < bytes; i += 8) {
    ASSERT_EQ(0, std::memcmp(before.data(), reinterpret_cast<std::uint8_t*>(own) + i, 8)) << i;
  }
}

}  // namespace
}  // namespace shunt::driver
