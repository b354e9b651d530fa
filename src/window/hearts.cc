#include "window/hearts.h"

#include <thread>

#include "base/untrusted.h"
#include "window/boot_id.h"

namespace shunt::window {
namespace {

constexpr std::chrono::milliseconds kLookAgain{20};

bool says_up(const layout::SectionLife& life) {
  return Untrusted(life.state).copy_acquire() ==
         static_cast<std::uint32_t>(layout::DriverState::kUp);
}

bool of_this_kernel(const layout::SectionLife& life, const BootId& here) {
  return here == BootId{Untrusted(life.boot_id[0]).copy(), Untrusted(life.boot_id[1]).copy()};
}

// What is known without waiting: kSilent where only time will tell.
Driven first_look(const SectionFile& file, const BootId& here) {
  const layout::SectionLife& life = file.section()->header.life;
  Driven found;
  found.locked = file.locked();
  const bool dead = !found.locked && here != BootId{} && of_this_kernel(life, here);
  found.heart = says_up(life) && !dead ? Heart::kSilent : Heart::kNone;
  return found;
}

}  // namespace

std::vector<Driven> watch_hearts(std::span<const SectionFile* const> sections,
                                 std::chrono::milliseconds limit) {
  const BootId here = boot_id();
  const auto end = std::chrono::steady_clock::now() + limit;
  std::vector<Driven> found(sections.size());
  std::vector<std::uint64_t> beats(sections.size());
  for (std::size_t i = 0; i < sections.size(); ++i) {
    if (sections[i] == nullptr) continue;
    found[i] = first_look(*sections[i], here);
    beats[i] = Untrusted(sections[i]->section()->header.life.heartbeat).copy();
  }
  for (;;) {
    bool unknown = false;
    for (std::size_t i = 0; i < sections.size(); ++i) {
      if (found[i].heart != Heart::kSilent) continue;
      const layout::SectionLife& life = sections[i]->section()->header.life;
      if (Untrusted(life.heartbeat).copy() != beats[i]) found[i].heart = Heart::kBeats;
      unknown = unknown || found[i].heart == Heart::kSilent;
    }
    if (!unknown || std::chrono::steady_clock::now() >= end) return found;
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace shunt::window
