// A snapshot of a window for people: `shunt window show` and `shunt status`.
//
// Reads the table and the sections; takes no lock and disturbs no driver. On a device it looks for
// up to half a second whether the hearts of the drivers beat: their clock is another kernel's. What
// it reads in a section is another process's to write, so every value is one copy, strings come
// from the table, and counts are only shown. Errors: WindowError when there is no such window; a
// section that may not be opened gives DriverCondition::kUnknown and a reason instead.
// Thread safety: no shared state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "window/device_object.h"

namespace shunt::window {

enum class DriverCondition {
  kDown,  // nobody holds the section; on a device: it says so, or it was this kernel's and is gone
  kUp,
  kStalled,  // the driver lives but its heart does not beat; on a device: it may live
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
  // datagram, virtio-serial, socket, ivshmem; "" before the driver's first life
  std::string doorbell;
  bool doorbell_present = false;
  std::uint32_t doorbells_rung = 0;  // to that peer
};

struct ListenerStatus {
  std::string endpoint;  // 10.77.0.2:6379
  std::uint64_t connections = 0;
};

// Of a partition of a window on a device; what its driver gave out and relayed in its present life.
struct ArenaStatus {
  std::uint64_t areas_total = 0;      // of the section; 0: no driver has been here
  std::uint64_t areas_used = 0;       // not free, the lingering ones included
  std::uint64_t areas_lingering = 0;  // the connection is over, somebody may still read
  std::uint64_t no_area = 0;
  std::uint64_t quota_refused = 0;
  std::uint64_t links = 0;
  std::uint64_t links_reset = 0;
  std::uint64_t peers_declared_dead = 0;
  std::uint64_t rings_relayed = 0;
  std::uint64_t rings_delivered = 0;
  std::uint64_t notices_sent = 0;
  std::uint64_t messages_stale = 0;
  std::uint64_t doorbells_missed = 0;
  std::uint64_t bells_bad = 0;
  std::uint32_t dead_after_ms = 0;
  std::uint32_t doorbells = 0;  // how many peers can ring this driver
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
  std::uint64_t started_s = 0;  // CLOCK_REALTIME
  std::uint64_t heartbeat_age_ms =
      0;               // 0 while down; on a device: how long it was silent under our eyes
  std::string notify;  // poll, interrupt
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
  std::optional<ArenaStatus> arena;  // on a device
};

// Of a window on a device.
struct DeviceStatus {
  std::uint64_t size = 0;         // of the window
  std::uint64_t object_size = 0;  // of the device, from the window's beginning on
  std::uint64_t base = 0;         // the window's beginning in the device
  std::uint64_t granule = 0;
  std::uint64_t section_stride = 0;
  std::uint64_t area_stride = 0;
  std::uint32_t areas = 0;  // of each section
};

struct WindowStatus {
  std::string dir;  // or the device's name
  BackingKind kind = BackingKind::kDirectory;
  std::string
      directory;  // that programs of this kernel have for it: `dir`, or the runtime directory
  std::optional<DeviceStatus> device;
  std::uint64_t generation = 0;
  std::uint64_t section_bytes = 0;
  std::uint32_t lane_entries = 0;
  std::vector<PartitionStatus> partitions;
};

// A directory, a device, or a device's runtime directory.
WindowStatus read_status(const std::string& spec);

}  // namespace shunt::window
