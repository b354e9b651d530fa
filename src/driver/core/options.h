// How a driver is started.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "layout/section.h"

namespace shunt::driver {

struct Options {
  std::string window;     // directory or device
  std::string partition;  // name
  layout::NotifyMode notify = layout::NotifyMode::kInterrupt;
  std::chrono::milliseconds tick{100};            // heartbeat, and how exact time limits are
  std::chrono::milliseconds request_limit{2000};  // for a program's request, from its arrival

  // For a window on a device.
  std::chrono::milliseconds dead_after{2500};    // silence after which another partition is dead
  std::vector<std::string> allow;                // whose programs may use it (policy.h)
  std::uint32_t areas_per_program = 0;           // at a time; 0: as many as there are
  std::map<std::string, std::string> doorbells;  // by partition (doorbells.h); else datagrams
};

}  // namespace shunt::driver
