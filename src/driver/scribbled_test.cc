// Somebody who can write the window writes it. What a driver needs to go on with, it never reads there.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <memory>
#include <vector>

#include "driver/relay_support_test.h"

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

}  // namespace
}  // namespace shunt::driver
