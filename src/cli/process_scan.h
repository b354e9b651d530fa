// Finds the programs that run under Shunt: whoever holds a status page open, as /proc tells.
//
// A page is listed once, whoever shares it (a forked child holds its parent's until it makes its
// own). Processes that the caller may not look into are counted; processes that end meanwhile are
// left out. Thread safety: none needed. Errors: std::system_error when `proc` cannot be read at all.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "cli/status_reader.h"

namespace shunt::cli {

struct ProcessStatus {
  pid_t pid = 0;
  std::string program;             // /proc/PID/comm
  std::vector<pid_t> shared_with;  // other processes that hold the same page
  PageStatus page;
};

struct ProcessScan {
  std::vector<ProcessStatus> processes;  // by pid
  int hidden = 0;                        // processes that could not be looked into
  int unreadable = 0;                    // pages that are damaged or of another version
};

ProcessScan scan_processes(const std::string& proc = "/proc");

}  // namespace shunt::cli
