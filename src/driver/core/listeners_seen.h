// The listeners that connections were handed to, in the section for `shunt status`.
//
// Holds kSeenListeners; a new one takes the place of the one that was used least recently.
// Thread safety: one writer; readers use the entries' sequence.
#pragma once

#include "layout/section.h"
#include "wire/endpoint.h"

namespace shunt::driver {

class ListenersSeen {
 public:
  explicit ListenersSeen(layout::Section* section) : section_(section) {}
  void saw(const wire::Endpoint& listener);

 private:
  layout::Section* section_;
  wire::Endpoint known_[layout::kSeenListeners] = {};  // private copy of what the entries say
  std::uint64_t last_use_[layout::kSeenListeners] = {};
  std::uint64_t clock_ = 0;
};

}  // namespace shunt::driver
