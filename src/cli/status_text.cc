#include <fmt/format.h>

#include <string_view>

#include "cli/status_report.h"
#include "cli/text_table.h"
#include "window/address.h"

namespace shunt::cli {
namespace {

std::string address(const wire::Endpoint& endpoint) {
  return endpoint.family == 0 ? "-" : window::endpoint_text(endpoint);
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::string reason(const SocketStatus& socket) {
  const std::string text = wire::reason_text(socket.reason);
  return socket.detail.empty() ? text : fmt::format("{} ({})", text, socket.detail);
}

std::string driver_text(const window::PartitionStatus& partition) {
  std::string state = window::condition_text(partition.driver);
  switch (partition.driver) {
    case window::DriverCondition::kUp:
      return fmt::format("{} (pid {}, {})", state, partition.pid, partition.notify);
    case window::DriverCondition::kStalled:
      return fmt::format("{} (pid {}, silent for {:.1f} s)", state, partition.pid,
                         static_cast<double>(partition.heartbeat_age_ms) / 1000);
    case window::DriverCondition::kUnknown:
      return fmt::format("{} ({})", state, printable(partition.unknown_because));
    case window::DriverCondition::kDown:
      break;
  }
  return state;
}

std::string partitions_text(const ProcessStatus& process, const SocketStatus& socket) {
  const std::string& own = process.page.partition;
  if (socket.peer_partition.empty() || socket.peer_partition == own) return or_dash(own);
  return fmt::format("{} - {}", or_dash(own), socket.peer_partition);
}

// A heading and the table, or nothing when the table has no rows.
std::string section(std::string_view heading, const TextTable& table) {
  return table.empty() ? std::string() : fmt::format("\n{}\n{}", heading, table.str());
}

std::string sockets_text(const std::vector<ProcessStatus>& processes) {
  TextTable listeners({"PROGRAM", ">PID", "LOCAL", "PARTITION", "SERVES"});
  TextTable shared({"PROGRAM", ">PID", "LOCAL", "PEER", "PARTITIONS", ">SENT", ">RECEIVED"});
  TextTable kernel({"PROGRAM", ">PID", "LOCAL", "PEER", ">SENT", ">RECEIVED", "BECAUSE"});
  for (const ProcessStatus& process : processes) {
    const std::string pid = std::to_string(process.pid);
    for (const SocketStatus& s : process.page.listeners) {
      listeners.add({process.program, pid, address(s.local), or_dash(process.page.partition),
                     s.shared_memory ? "Shunt and TCP" : fmt::format("TCP only: {}", reason(s))});
    }
    for (const SocketStatus& s : process.page.connections) {
      const bool connecting = s.state == layout::EntryState::kConnecting;
      const std::string sent = connecting ? "connecting" : bytes_text(s.bytes_sent);
      const std::string received = connecting ? "" : bytes_text(s.bytes_received);
      if (s.shared_memory) {
        shared.add({process.program, pid, address(s.local), address(s.peer),
                    partitions_text(process, s), sent, received});
      } else {
        kernel.add(
            {process.program, pid, address(s.local), address(s.peer), sent, received, reason(s)});
      }
    }
  }
  return section("Listeners", listeners) + section("Connections through shared memory", shared) +
         section("Connections not in shared memory", kernel);
}

std::string totals_text(const std::vector<ProcessStatus>& processes) {
  TextTable totals({"PROGRAM", ">PID", "VIA", ">CONNECTIONS", ">SENT", ">RECEIVED"});
  TextTable reasons({"PROGRAM", ">PID", ">CONNECTIONS", "BECAUSE"});
  for (const ProcessStatus& process : processes) {
    const std::string pid = std::to_string(process.pid);
    const auto add = [&](const char* via, const Traffic& t) {
      totals.add({process.program, pid, via, std::to_string(t.connections),
                  bytes_text(t.bytes_sent), bytes_text(t.bytes_received)});
    };
    add("shared memory", process.page.shared_memory);
    add("kernel TCP", process.page.kernel);
    for (std::uint32_t i = 1; i < wire::kReasonCount; ++i) {
      const std::uint64_t count = process.page.reasons[i];
      if (count != 0)
        reasons.add({process.program, pid, std::to_string(count), wire::reason_text(i)});
    }
  }
  return section("Totals since the program started, closed connections included", totals) +
         section("Why sockets were left to kernel TCP", reasons);
}

// How the drivers of a window on a device wake each other; "" where none runs.
std::string doorbells_text(const window::WindowStatus& status) {
  TextTable table({"DRIVER", "PEER", "DOORBELL", ">RUNG"});
  for (const window::PartitionStatus& p : status.partitions) {
    if (!status.device || p.driver == window::DriverCondition::kDown) continue;
    for (const window::PeerStatus& peer : p.peers) {
      table.add(
          {p.name, peer.partition,
           fmt::format("{}{}", or_dash(peer.doorbell), peer.doorbell_present ? "" : ", absent"),
           std::to_string(peer.doorbells_rung)});
    }
  }
  return section("Doorbells", table);
}

// One line about a window on a device, "" for a directory.
std::string device_text(const window::WindowStatus& status) {
  if (!status.device) return "";
  const window::DeviceStatus& device = *status.device;
  return fmt::format("  {}, {}, {} areas for each partition, granule {}\n",
                     window::kind_text(status.kind), bytes_text(device.size), device.areas,
                     bytes_text(device.granule));
}

}  // namespace

std::string window_text(const window::WindowStatus& status) {
  std::vector<std::string> columns{"PARTITION", "DRIVER", "ADDRESSES", ">REQUESTS", ">ARRIVALS"};
  if (status.device) columns.insert(columns.end(), {">AREAS USED", ">LINGERING"});
  TextTable table(columns);
  for (const window::PartitionStatus& p : status.partitions) {
    std::uint64_t arrivals = 0;
    for (const window::PeerStatus& peer : p.peers) arrivals += peer.arrivals;
    std::vector<std::string> row{p.name, driver_text(p),
                                 fmt::format("{}", fmt::join(p.addresses, ", ")),
                                 std::to_string(p.requests), std::to_string(arrivals)};
    if (p.arena) {
      row.push_back(fmt::format("{} of {}", p.arena->areas_used, status.device->areas));
      row.push_back(std::to_string(p.arena->areas_lingering));
    } else if (status.device) {
      row.insert(row.end(), {"-", "-"});
    }
    table.add(row);
  }
  return fmt::format("Window {}\n{}{}{}", printable(status.dir), device_text(status), table.str(),
                     doorbells_text(status));
}

std::string status_text(const StatusReport& report) {
  std::string out;
  for (const WindowReport& window : report.windows) {
    if (!out.empty()) out += '\n';
    out += window.status ? window_text(*window.status)
                         : fmt::format("Window {}\n  not readable: {}\n", printable(window.dir),
                                       printable(window.error));
  }
  const ProcessScan& scan = report.scan;
  if (scan.processes.empty()) {
    out += fmt::format("{}No program runs under Shunt. Start one with: shunt run -- PROGRAM\n",
                       out.empty() ? "" : "\n");
  } else {
    const std::string sockets = sockets_text(scan.processes);
    out += sockets.empty() ? "\nNo listeners and no live connections.\n" : sockets;
    out += totals_text(scan.processes);
  }
  if (scan.hidden > 0) {
    out += fmt::format(
        "\n{} processes belong to others and were not looked into (run as root to see all).\n",
        scan.hidden);
  }
  if (scan.unreadable > 0) {
    out += fmt::format("\n{} status pages are damaged or of another version of Shunt.\n",
                       scan.unreadable);
  }
  if (out.starts_with('\n')) out.erase(0, 1);
  return out;
}

}  // namespace shunt::cli
