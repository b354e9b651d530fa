// A snapshot of a window for people: `shunt window show` and `shunt status`.
//
// Reads the table and the sections; takes no lock and disturbs no driver. What it reads in a section
// is another process's to write, so every value is one copy, strings come from the table, and counts
// are only shown. Errors: WindowError when there is no such window; a section that may not be opened
// gives DriverCondition::kUnknown and a reason instead.
// Thread safety: no shared state.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace shunt::window {

enum class DriverCondition {
  kDown,  // nobody holds the section
  kUp,
  kStalled,  // the driver lives but its heart does not beat
  kUnknown,  // the section could not be opened
};
const char* condition_text(DriverCondition condition);

struct PeerStatus {
  std::string partition;
  std::uint64_t requests_sent = 0;
  std::uint64_t requests_queued = 0;
  std::uint64_t connected = 0;
  std::uint64_t arrivals = 0;
  std::uint64_t arrivals_queued = 0;
  std::uint64_t arrivals_accepted = 0;
};

struct ListenerStatus {
  std::string endpoint;  // 10.77.0.2:6379
  std::uint64_t connections = 0;
};

struct PartitionStatus {
  std::uint32_t number = 0;
  std::string name;
  std::vector<std::string> addresses;
  DriverCondition driver = DriverCondition::kUnknown;
  std::string unknown_because;  // only for kUnknown

  // Of the driver's present life, or of its last one while it is down.
  std::uint32_t pid = 0;  // 0: down
  std::uint64_t generation = 0;
  std::uint64_t started_s = 0;         // CLOCK_REALTIME
  std::uint64_t heartbeat_age_ms = 0;  // 0 while down
  std::string notify;                  // poll, interrupt
  bool sleeping = false;
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_received = 0;
  std::uint64_t messages_bad = 0;
  std::uint64_t doorbells_rung = 0;
  std::uint64_t doorbells_received = 0;
  std::uint64_t lane_full = 0;
  std::uint64_t fds_dropped = 0;
  std::uint64_t datagrams_bad = 0;
  std::uint64_t requests = 0;
  std::uint64_t requests_cancelled = 0;
  std::uint64_t requests_bad = 0;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> request_refused;  // wire::Reason, count > 0
  std::vector<std::pair<std::uint32_t, std::uint64_t>> arrival_refused;
  std::vector<PeerStatus> peers;
  std::vector<ListenerStatus> listeners;
};

struct WindowStatus {
  std::string dir;
  std::uint64_t generation = 0;
  std::uint64_t section_bytes = 0;
  std::uint32_t lane_entries = 0;
  std::vector<PartitionStatus> partitions;
};

WindowStatus read_status(const std::string& dir);

}  // namespace shunt::window
