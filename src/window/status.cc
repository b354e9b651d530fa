#include "window/status.h"

#include <cstring>
#include <ctime>
#include <memory>

#include "base/untrusted.h"
#include "layout/section.h"
#include "ring/fence.h"
#include "window/address.h"
#include "window/backing.h"
#include "window/error.h"
#include "window/hearts.h"
#include "window/section_file.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kStalledMs = 3000;
constexpr int kListenerReads = 100;

template <typename T>
T copy(const std::atomic<T>& place) {
  return Untrusted<T>(place).copy();
}

std::uint64_t monotonic_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
         static_cast<std::uint64_t>(now.tv_nsec) / 1000000;
}

// A directory: whoever holds the section's lock is its driver, and its clock is ours.
DriverCondition condition_in_directory(const SectionFile& file, std::uint64_t* heartbeat_age_ms) {
  const layout::SectionLife& life = file.section()->header.life;
  if (!file.locked() || copy(life.state) != static_cast<std::uint32_t>(layout::DriverState::kUp)) {
    return DriverCondition::kDown;
  }
  const std::uint64_t beat = copy(life.heartbeat_ms);
  const std::uint64_t now = monotonic_ms();
  *heartbeat_age_ms = now > beat ? now - beat : 0;
  return *heartbeat_age_ms > kStalledMs ? DriverCondition::kStalled : DriverCondition::kUp;
}

DriverCondition condition_on_device(Heart heart, std::uint64_t* heartbeat_age_ms) {
  switch (heart) {
    case Heart::kBeats:
      return DriverCondition::kUp;
    case Heart::kSilent:
      *heartbeat_age_ms = kWatchBriefly.count();
      return DriverCondition::kStalled;
    case Heart::kNone:
      break;
  }
  return DriverCondition::kDown;
}

void read_life(const SectionFile& file, PartitionStatus* out) {
  const layout::SectionHeader& header = file.section()->header;
  out->generation = copy(header.life.generation);
  out->started_s = copy(header.life.started_s);
  const bool interrupt =
      copy(header.life.notify) == static_cast<std::uint32_t>(layout::NotifyMode::kInterrupt);
  out->notify = out->generation == 0 ? "" : interrupt ? "interrupt" : "poll";
  if (out->driver == DriverCondition::kDown) return;
  out->pid = copy(header.life.pid);
  out->sleeping = (copy(header.sleep.sleeping) & 1) != 0;
}

ArenaStatus read_arena(const layout::SectionHeader& header) {
  const layout::ArenaCounters& c = header.arena;
  ArenaStatus out;
  out.areas_total = copy(c.areas_total);
  out.areas_used = copy(c.areas_used);
  out.areas_lingering = copy(c.areas_lingering);
  out.no_area = copy(c.no_area);
  out.quota_refused = copy(c.quota_refused);
  out.links = copy(c.links);
  out.links_reset = copy(c.links_reset);
  out.peers_declared_dead = copy(c.peers_declared_dead);
  out.rings_relayed = copy(c.rings_relayed);
  out.rings_delivered = copy(c.rings_delivered);
  out.notices_sent = copy(c.notices_sent);
  out.messages_stale = copy(c.messages_stale);
  out.doorbells_missed = copy(c.doorbells_missed);
  out.bells_bad = copy(c.bells_bad);
  out.dead_after_ms = copy(header.life.dead_after_ms);
  out.doorbells = copy(header.life.doorbells);
  return out;
}

void read_counters(const layout::SectionCounters& c, PartitionStatus* out) {
  out->messages_sent = copy(c.messages_sent);
  out->messages_received = copy(c.messages_received);
  out->messages_bad = copy(c.messages_bad);
  out->doorbells_rung = copy(c.doorbells_rung);
  out->doorbells_received = copy(c.doorbells_received);
  out->lane_full = copy(c.lane_full);
  out->fds_dropped = copy(c.fds_dropped);
  out->datagrams_bad = copy(c.datagrams_bad);
  out->requests = copy(c.requests);
  out->requests_cancelled = copy(c.requests_cancelled);
  out->requests_bad = copy(c.requests_bad);
  for (std::uint32_t r = 0; r < wire::kReasonCount; ++r) {
    const std::uint64_t requests = copy(c.request_refused[r]);
    if (requests != 0) out->request_refused.emplace_back(r, requests);
    const std::uint64_t arrivals = copy(c.arrival_refused[r]);
    if (arrivals != 0) out->arrival_refused.emplace_back(r, arrivals);
  }
}

const char* doorbell_text(std::uint16_t kind) {
  switch (static_cast<layout::DoorbellKind>(kind)) {
    case layout::DoorbellKind::kDatagram:
      return "datagram";
    case layout::DoorbellKind::kVirtioSerial:
      return "virtio-serial";
    case layout::DoorbellKind::kSocket:
      return "socket";
    case layout::DoorbellKind::kIvshmem:
      return "ivshmem";
    default:
      return "";
  }
}

void read_peers(const layout::Section& section, const wire::PartitionTable& table,
                PartitionStatus* out) {
  for (std::uint32_t i = 0; i < table.count; ++i) {
    if (i + 1 == out->number) continue;
    const layout::PeerCounters& p = section.peers[i];
    PeerStatus peer;
    peer.partition = table.partitions[i].name();
    peer.requests_sent = copy(p.requests_sent);
    peer.requests_queued = copy(p.requests_queued);
    peer.connected = copy(p.connected);
    peer.arrivals = copy(p.arrivals);
    peer.arrivals_queued = copy(p.arrivals_queued);
    peer.arrivals_accepted = copy(p.arrivals_accepted);
    peer.doorbell = doorbell_text(copy(p.doorbell_kind));
    peer.doorbell_present = copy(p.doorbell_present) == 1;
    peer.doorbells_rung = copy(p.doorbells_rung);
    out->peers.push_back(peer);
  }
}

// One entry, read again while its writer is in the middle of it. False: free, or never still.
bool read_listener(const layout::SeenListener& entry, wire::Endpoint* endpoint,
                   std::uint64_t* connections) {
  for (int i = 0; i < kListenerReads; ++i) {
    const std::uint32_t before = Untrusted(entry.sequence).copy_acquire();
    *connections = copy(entry.connections);
    endpoint->family = copy(entry.family);
    endpoint->port = copy(entry.port);
    const std::uint64_t words[2] = {copy(entry.address[0]), copy(entry.address[1])};
    std::memcpy(endpoint->address.data(), words, sizeof words);
    // Keeps the copies above before the second look; pairs with the writer's fence.
    ring::full_fence();
    if ((before & 1) == 0 && copy(entry.sequence) == before) return *connections != 0;
  }
  return false;
}

void read_section(const SectionFile& file, const wire::PartitionTable& table,
                  PartitionStatus* out) {
  read_life(file, out);
  read_counters(file.section()->header.counters, out);
  read_peers(*file.section(), table, out);
  for (const layout::SeenListener& entry : file.section()->listeners) {
    wire::Endpoint endpoint;
    std::uint64_t connections = 0;
    if (read_listener(entry, &endpoint, &connections)) {
      out->listeners.push_back({endpoint_text(endpoint), connections});
    }
  }
}

// nullptr: it cannot be opened; `out` says why.
std::unique_ptr<SectionFile> open_section(const Backing& backing, const wire::Partition& p,
                                          PartitionStatus* out) {
  out->number = p.number;
  out->name = p.name();
  for (std::uint32_t i = 0; i < p.address_count; ++i) {
    out->addresses.push_back(address_text(p.addresses[i]));
  }
  try {
    return std::make_unique<SectionFile>(backing, p, Access::kReadOnly);
  } catch (const WindowError& e) {
    out->driver = DriverCondition::kUnknown;
    out->unknown_because = e.what();
  }
  return nullptr;
}

void read_partitions(const Backing& backing, WindowStatus* status) {
  const std::uint32_t count = backing.table.count;
  status->partitions.resize(count);
  std::vector<std::unique_ptr<SectionFile>> files;
  std::vector<const SectionFile*> sections;
  for (std::uint32_t i = 0; i < count; ++i) {
    files.push_back(open_section(backing, backing.table.partitions[i], &status->partitions[i]));
    sections.push_back(files.back().get());
  }
  const std::vector<Driven> driven =
      backing.device ? watch_hearts(sections, kWatchBriefly) : std::vector<Driven>(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!files[i]) continue;
    PartitionStatus& out = status->partitions[i];
    out.driver = backing.device ? condition_on_device(driven[i].heart, &out.heartbeat_age_ms)
                                : condition_in_directory(*files[i], &out.heartbeat_age_ms);
    read_section(*files[i], backing.table, &out);
    if (backing.device) out.arena = read_arena(files[i]->section()->header);
  }
}

DeviceStatus device_status(const Backing& backing) {
  const layout::DeviceGeometry& g = backing.geometry;
  DeviceStatus out;
  out.size = g.size;
  out.object_size = backing.device->size;
  out.base = backing.device->base;
  out.granule = g.granule;
  out.section_stride = g.section_stride;
  out.area_stride = g.area_stride;
  out.areas = g.areas;
  return out;
}

}  // namespace

const char* condition_text(DriverCondition condition) {
  switch (condition) {
    case DriverCondition::kDown:
      return "down";
    case DriverCondition::kUp:
      return "up";
    case DriverCondition::kStalled:
      return "stalled";
    case DriverCondition::kUnknown:
      break;
  }
  return "unknown";
}

WindowStatus read_status(const std::string& spec) {
  const Backing backing = open_backing(spec, Access::kReadOnly);
  const wire::PartitionTable& table = backing.table;
  WindowStatus status;
  status.dir = backing.spec;
  status.kind = backing.kind();
  status.directory = backing.directory;
  if (backing.device) status.device = device_status(backing);
  status.generation = table.generation;
  status.section_bytes = table.section_bytes;
  status.lane_entries = layout::section_geometry(table.section_bytes, table.count).lane_entries;
  read_partitions(backing, &status);
  return status;
}

}  // namespace shunt::window
