#include "cli/status_report.h"

#include <fmt/format.h>

#include <set>

#include "window/error.h"

namespace shunt::cli {

StatusReport gather(const std::string& dir) {
  StatusReport report;
  report.scan = scan_processes();
  std::set<std::string> dirs;
  if (!dir.empty()) {
    dirs.insert(dir);
  } else {
    for (const ProcessStatus& process : report.scan.processes) {
      if (!process.page.window.empty()) dirs.insert(process.page.window);
    }
  }
  for (const std::string& name : dirs) {
    WindowReport window;
    window.dir = name;
    try {
      window.status = window::read_status(name);
    } catch (const window::WindowError& error) {
      window.error = error.what();
    }
    report.windows.push_back(std::move(window));
  }
  return report;
}

std::string reason_key(std::uint32_t reason) {
  static constexpr const char* kKeys[] = {
      "none",
      "no-listener",
      "not-in-window",
      "driver-down",
      "peer-driver-down",
      "unsupported-option",
      "unsupported-call",
      "untrusted-listener",
      "backlog-full",
      "no-memory",
      "refused",
      "ordinary-peer",
      "name-taken",
      "reuse-port",
      "bad-source",
      "version",
      "passed-on",
  };
  return reason < std::size(kKeys) ? kKeys[reason] : fmt::format("reason-{}", reason);
}

}  // namespace shunt::cli
