// Which of a window's drivers live?
//
// On this kernel a driver holds its section's lock. Across kernels only its heart tells, and the
// time that it wrote is another kernel's: so each heart is looked at again and again until it has
// moved.
//
// Thread safety: no shared state. Errors: WindowError when a section cannot be opened.
#pragma once

#include <chrono>
#include <span>
#include <vector>

#include "window/section_file.h"

namespace shunt::window {

// Long enough for a person who looks, and to be sure enough to overwrite something (a driver beats
// ten times a second, in a starved guest once in a while).
inline constexpr std::chrono::milliseconds kWatchBriefly{500};
inline constexpr std::chrono::milliseconds kWatchLong{3000};

enum class Heart {
  kNone,  // no driver: it says so, or it was this kernel's and is gone
  kBeats,
  kSilent,  // it says that it is up, and did not beat: paused, stuck, or killed with its kernel
};
struct Driven {
  Heart heart = Heart::kNone;
  bool locked = false;  // a driver of this kernel holds the section
};

// One for each section of a window on a device, in the order given (nullptr: kNone). Returns as
// soon as all is known.
std::vector<Driven> watch_hearts(std::span<const SectionFile* const> sections,
                                 std::chrono::milliseconds limit);

}  // namespace shunt::window
