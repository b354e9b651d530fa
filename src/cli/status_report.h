// What `shunt status` and `shunt window show` print: for people, and as JSON (docs/STATUS-JSON.md).
//
// gather() looks around, the rest is pure. Thread safety: none needed. Errors: see gather.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/process_scan.h"
#include "window/status.h"

namespace shunt::cli {

struct WindowReport {
  std::string dir;
  std::optional<window::WindowStatus> status;
  std::string error;  // why there is no status
};

struct StatusReport {
  std::vector<WindowReport> windows;
  ProcessScan scan;
};

// The window `dir`, or when that is empty, every window that a program under Shunt names. A window
// that cannot be read is reported with its error.
StatusReport gather(const std::string& dir);

// The stable name of a wire::Reason in JSON, e.g. "no-listener"; "reason-77" for unknown numbers.
std::string reason_key(std::uint32_t reason);

std::string status_text(const StatusReport& report);
std::string window_text(const window::WindowStatus& status);
nlohmann::json status_json(const StatusReport& report);
nlohmann::json window_json(const window::WindowStatus& status);

// JSON as it is printed: indented, a newline at the end, whatever bytes the strings hold.
std::string dump(const nlohmann::json& json);

}  // namespace shunt::cli
