// The ABI of a section: what one partition writes in a window and the others only read.
//
//   +-----------+---------------+-----------+-------+------+---------+---------+
//   | header    | peer counters | listeners | lanes | acks | entries | buffers |
//   +-----------+---------------+-----------+-------+------+---------+---------+
//
// The output queue of a partition has one lane for each partition of the window (the own one is
// unused). A lane is a ring of entries {offset, length}; an entry identifies the buffer in the same
// section that holds the message. How far a lane has been read stands in the *reader's* section
// (acks), so that every cache line has one writer.
//
// Invariants: head and tail are cumulative counts; 0 <= head - tail <= lane_entries. Both belong to
// one life of the producing driver (on a device: to one session of it towards the reader):
// LaneControl::generation says which, 0 while it changes, and LaneAck::generation says for which one the tail
// was counted.
//
// On a device nobody's lock can be asked, so the drivers tell lives apart by what is here: a heart that beats
// (`heartbeat`), a `token` of each start, and *sessions*. A driver's session towards another partition is
// life << 16 | restarts of that lane; it is new when the driver starts, and when it declares the other dead.
// A reader trusts nothing here: geometry comes from the partition table, counters and entries are
// copied once and checked (window/queue_reader.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "wire/message.h"
#include "wire/partition_table.h"
#include "wire/reason.h"

namespace shunt::layout {

inline constexpr std::uint32_t kSectionMagic = 0x43534853;  // "SHSC"
inline constexpr std::uint16_t kSectionVersion = 2;
inline constexpr std::uint32_t kBufferBytes = 256;
inline constexpr std::uint32_t kLaneEntriesMin = 8;
inline constexpr std::uint32_t kLaneEntriesMax = 1024;
inline constexpr std::uint32_t kSeenListeners = 64;
static_assert(kBufferBytes == wire::kMessageBytes);

enum class DriverState : std::uint32_t { kDown = 0, kUp = 1 };
enum class NotifyMode : std::uint32_t { kPoll = 0, kInterrupt = 1 };
enum class DoorbellKind : std::uint16_t {
  kNone = 0,
  kDatagram = 1,
  kVirtioSerial = 2,
  kSocket = 3,
  kIvshmem = 4
};

// PeerCounters::doorbell_address: how the peer interrupts this partition through their ivshmem device, and
// whether it has been heard. 0: it cannot.
inline constexpr std::uint64_t kIvshmemVectorMask = 0xffff;
inline constexpr int kIvshmemNumberShift = 16;  // of this partition's device, 16 bits
inline constexpr std::uint64_t kIvshmemThere = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kIvshmemHeard = std::uint64_t{1} << 33;

struct alignas(128) SectionIdentity {  // written once, when the window is created
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t wire_version;
  std::uint32_t partition;  // number
  std::uint32_t partition_count;
  std::uint64_t window_generation;
  std::uint64_t section_bytes;
  std::uint32_t lane_entries;
  std::uint32_t buffer_bytes;
};

struct alignas(128) SectionLife {
  std::atomic<std::uint64_t> generation;    // of the driver: +1 at each start
  std::atomic<std::uint64_t> heartbeat;     // counts up while the driver lives
  std::atomic<std::uint64_t> heartbeat_ms;  // CLOCK_MONOTONIC of the last beat, for people
  std::atomic<std::uint64_t> started_s;     // CLOCK_REALTIME
  std::atomic<std::uint32_t> state;         // DriverState
  std::atomic<std::uint32_t> pid;
  std::atomic<std::uint32_t> notify;  // NotifyMode
  std::uint32_t reserved;
  // In a window on a device; zero in a directory.
  std::atomic<std::uint64_t> token;  // random at each start; a driver that finds another one ends
  std::atomic<std::uint64_t> boot_id[2];  // /proc/sys/kernel/random/boot_id of the driver's kernel
  std::atomic<std::uint32_t>
      dead_after_ms;  // silence after which this driver declares another one dead
  std::atomic<std::uint32_t> doorbells;  // how many peers can ring this driver
};

struct alignas(128) SectionSleep {
  std::atomic<std::uint32_t> sleeping;  // epoch; odd: the driver sleeps and wants its doorbell
};

// Since the driver started. Written by the driver, shown by `shunt status`.
struct alignas(128) SectionCounters {
  std::atomic<std::uint64_t> messages_sent;
  std::atomic<std::uint64_t> messages_received;
  std::atomic<std::uint64_t> messages_bad;  // entries, lanes or messages that failed a check
  std::atomic<std::uint64_t> doorbells_rung;
  std::atomic<std::uint64_t> doorbells_received;
  std::atomic<std::uint64_t> lane_full;    // messages that found their lane full
  std::atomic<std::uint64_t> fds_dropped;  // descriptors that no CONNECT asked for
  std::atomic<std::uint64_t> datagrams_bad;
  std::atomic<std::uint64_t> requests;  // of own programs
  std::atomic<std::uint64_t> requests_cancelled;
  std::atomic<std::uint64_t> requests_bad;  // not a CONNECT, or not its descriptors
  std::atomic<std::uint64_t> listeners_seen;
  std::atomic<std::uint64_t> request_refused[wire::kReasonCount];  // told to own programs
  std::atomic<std::uint64_t> arrival_refused[wire::kReasonCount];  // told to other partitions
};

// Of a driver whose window is on a device: what it gave out and relayed, since it started but for the first
// three, which are as of now.
struct alignas(128) ArenaCounters {
  std::atomic<std::uint64_t> areas_total;
  std::atomic<std::uint64_t> areas_used;       // all that are not free, the lingering ones included
  std::atomic<std::uint64_t> areas_lingering;  // wait for a peer or a program to let go
  std::atomic<std::uint64_t> no_area;          // requests and arrivals that found none free
  std::atomic<std::uint64_t> quota_refused;
  std::atomic<std::uint64_t> links;  // connections to other kernels
  std::atomic<std::uint64_t> links_reset;
  std::atomic<std::uint64_t> peers_declared_dead;
  std::atomic<std::uint64_t> rings_relayed;    // read from own programs' bells
  std::atomic<std::uint64_t> rings_delivered;  // written to own programs' bells
  std::atomic<std::uint64_t> notices_sent;
  std::atomic<std::uint64_t> messages_stale;    // of another session: dropped
  std::atomic<std::uint64_t> doorbells_missed;  // news that only the tick found: stays 0
  std::atomic<std::uint64_t> bells_bad;         // bells with bytes that are no rings
};

struct SectionHeader {
  SectionIdentity identity;
  SectionLife life;
  SectionSleep sleep;
  SectionCounters counters;
  ArenaCounters arena;
  std::uint8_t reserved[4096 - 384 - 640 - 128];
};

struct alignas(64) PeerCounters {                // one for each partition of the window
  std::atomic<std::uint64_t> requests_sent;      // CONNECT to it
  std::atomic<std::uint64_t> requests_queued;    // STATUS from it
  std::atomic<std::uint64_t> connected;          // CONNECTED from it
  std::atomic<std::uint64_t> arrivals;           // CONNECT from it
  std::atomic<std::uint64_t> arrivals_queued;    // handed to a listener here
  std::atomic<std::uint64_t> arrivals_accepted;  // accepted by the listener's program
  std::atomic<std::uint16_t> doorbell_kind;      // DoorbellKind
  std::atomic<std::uint16_t> doorbell_present;   // 1: it can ring us, and we it
  std::atomic<std::uint32_t> doorbells_rung;     // to it; modulo 2^32
  std::atomic<std::uint64_t> doorbell_address;   // kIvshmem...
};

// A listener of this partition that connections were handed to. Valid while `connections` > 0;
// `sequence` is odd while the entry is rewritten for another listener.
struct alignas(64) SeenListener {
  std::atomic<std::uint32_t> sequence;
  std::atomic<std::uint16_t> family;
  std::atomic<std::uint16_t> port;
  std::atomic<std::uint64_t> address[2];  // the 16 address bytes, in memory order
  std::atomic<std::uint64_t> connections;
  std::uint64_t reserved;
};

struct alignas(128) LaneControl {
  std::atomic<std::uint64_t> generation;  // of the driver, or its session; 0: being reset
  std::atomic<std::uint64_t> head;        // entries ever published
};

struct alignas(128) LaneAck {
  std::atomic<std::uint64_t> generation;  // of the producer, as the reader saw it
  std::atomic<std::uint64_t> tail;        // entries ever read
};

struct LaneEntry {
  std::atomic<std::uint64_t> offset;  // of the buffer, from the beginning of the section
  std::atomic<std::uint32_t> length;
  std::uint32_t reserved;
};

struct Section {
  SectionHeader header;
  PeerCounters peers[wire::kMaxPartitions];
  SeenListener listeners[kSeenListeners];
  LaneControl lanes[wire::kMaxPartitions];  // [destination number - 1]
  LaneAck acks[wire::kMaxPartitions];       // [producer number - 1]
  // Entries and buffers follow; their places depend on the geometry.
};

static_assert(sizeof(SectionIdentity) == 128);
static_assert(sizeof(SectionLife) == 128);
static_assert(sizeof(SectionSleep) == 128);
static_assert(sizeof(SectionCounters) == 640);
static_assert(offsetof(SectionLife, token) == 48);
static_assert(offsetof(SectionLife, boot_id) == 56);
static_assert(offsetof(SectionLife, dead_after_ms) == 72);
static_assert(offsetof(SectionLife, doorbells) == 76);
static_assert(sizeof(ArenaCounters) == 128);
static_assert(offsetof(SectionHeader, arena) == 1024);
static_assert(sizeof(SectionHeader) == 4096);
static_assert(sizeof(PeerCounters) == 64);
static_assert(offsetof(PeerCounters, doorbell_kind) == 48);
static_assert(offsetof(PeerCounters, doorbells_rung) == 52);
static_assert(offsetof(PeerCounters, doorbell_address) == 56);
static_assert(sizeof(SeenListener) == 64);
static_assert(sizeof(LaneControl) == 128);
static_assert(sizeof(LaneAck) == 128);
static_assert(sizeof(LaneEntry) == 16);
static_assert(offsetof(Section, peers) == 4096);
static_assert(offsetof(Section, listeners) == 8192);
static_assert(offsetof(Section, lanes) == 12288);
static_assert(offsetof(Section, acks) == 20480);
static_assert(sizeof(Section) == 28672);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<std::uint16_t>::is_always_lock_free);

// Where entries and buffers are. The same in every section of a window: a function of the table.
struct SectionGeometry {
  std::uint64_t section_bytes = 0;
  std::uint32_t partition_count = 0;
  std::uint32_t lane_entries = 0;  // a power of two; 0: the section is too small

  constexpr std::uint64_t lane_bytes() const {
    return std::uint64_t{lane_entries} * (sizeof(LaneEntry) + kBufferBytes);
  }
  constexpr std::uint64_t entries_offset(std::uint32_t lane) const {
    return sizeof(Section) + std::uint64_t{lane} * lane_entries * sizeof(LaneEntry);
  }
  constexpr std::uint64_t buffers_offset(std::uint32_t lane) const {
    const std::uint64_t first = (entries_offset(partition_count) + 255) & ~std::uint64_t{255};
    return first + std::uint64_t{lane} * lane_entries * kBufferBytes;
  }
  constexpr std::uint64_t buffers_end() const { return buffers_offset(partition_count); }
};

constexpr std::uint64_t section_bytes_min(std::uint32_t partition_count) {
  const SectionGeometry least{0, partition_count, kLaneEntriesMin};
  return (least.buffers_end() + 4095) & ~std::uint64_t{4095};
}

constexpr SectionGeometry section_geometry(std::uint64_t bytes, std::uint32_t partition_count) {
  for (std::uint32_t entries = kLaneEntriesMax; entries >= kLaneEntriesMin; entries /= 2) {
    const SectionGeometry geometry{bytes, partition_count, entries};
    if (geometry.buffers_end() <= bytes) return geometry;
  }
  return {bytes, partition_count, 0};
}

static_assert(section_geometry(section_bytes_min(2), 2).lane_entries >= kLaneEntriesMin);
static_assert(section_geometry(section_bytes_min(64), 64).lane_entries >= kLaneEntriesMin);
static_assert(section_geometry(1 << 20, 2).lane_entries == 1024);
static_assert(section_geometry(1 << 20, 2).buffers_offset(0) == 28672 + 2 * 1024 * 16);

inline std::uint8_t* section_data(Section* section, std::uint64_t offset) {
  return reinterpret_cast<std::uint8_t*>(section) + offset;
}
inline const std::uint8_t* section_data(const Section* section, std::uint64_t offset) {
  return reinterpret_cast<const std::uint8_t*>(section) + offset;
}
inline LaneEntry* lane_entry(Section* section, const SectionGeometry& geometry, std::uint32_t lane,
                             std::uint64_t position) {
  const std::uint64_t slot = position & (geometry.lane_entries - 1);
  return reinterpret_cast<LaneEntry*>(section_data(section, geometry.entries_offset(lane))) + slot;
}
inline const LaneEntry* lane_entry(const Section* section, const SectionGeometry& geometry,
                                   std::uint32_t lane, std::uint64_t position) {
  const std::uint64_t slot = position & (geometry.lane_entries - 1);
  return reinterpret_cast<const LaneEntry*>(section_data(section, geometry.entries_offset(lane))) +
         slot;
}

}  // namespace shunt::layout
