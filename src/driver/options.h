// How a driver is started.
#pragma once

#include <chrono>
#include <string>

#include "layout/section.h"

namespace shunt::driver {

struct Options {
  std::string window;     // directory
  std::string partition;  // name
  layout::NotifyMode notify = layout::NotifyMode::kInterrupt;
  std::chrono::milliseconds tick{100};            // heartbeat, and how exact time limits are
  std::chrono::milliseconds request_limit{2000};  // for a program's request, from its arrival
};

}  // namespace shunt::driver
