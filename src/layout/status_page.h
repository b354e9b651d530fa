// The status page: what a shunted process tells `shunt status` about itself.
//
// A memory object named kStatusPageName that the provider maps read-write and keeps open at a high
// descriptor; `shunt status` finds it under /proc/PID/fd and maps it read-only. It dies with the
// process, so a killed program leaves nothing behind. The reader treats every word as untrusted:
// counts are bounded by the constants here, strings are cut at their field.
//
// Thread safety: single words are atomic; an entry is valid while its `state` is not kFree, and a
// reader that sees `sequence` odd or changed between two reads discards the entry and reads again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "wire/reason.h"

namespace shunt::layout {

inline constexpr char kStatusPageName[] = "shunt-status";
inline constexpr std::uint32_t kStatusMagic = 0x54534853;  // "SHST"
inline constexpr std::uint16_t kStatusVersion = 1;
inline constexpr std::uint32_t kStatusEntries = 4096;
inline constexpr std::uint32_t kPartitionNameBytes = 32;  // NUL-terminated

enum class EntryState : std::uint32_t {
  kFree = 0,
  kListening = 1,
  kConnecting = 2,
  kEstablished = 3,
};
enum class EntryVia : std::uint32_t { kKernel = 0, kSharedMemory = 1 };

struct StatusAddress {
  std::uint16_t family;  // AF_INET, AF_INET6 or 0
  std::uint16_t port;    // host byte order
  std::uint8_t bytes[16];
};

struct StatusEntry {
  std::atomic<std::uint32_t> sequence;
  std::atomic<std::uint32_t> state;   // EntryState
  std::atomic<std::uint32_t> via;     // EntryVia
  std::atomic<std::uint32_t> reason;  // wire::Reason
  StatusAddress local;
  StatusAddress peer;
  char peer_partition[kPartitionNameBytes];  // empty: the own partition, or unknown
  char detail[40];                           // e.g. the option's name
  std::atomic<std::uint64_t> bytes_sent;
  std::atomic<std::uint64_t> bytes_received;
  std::uint8_t reserved[8];
};

// Since the process started. `connections` counts every connection; the byte counts are of closed
// ones: a reader adds those of the live entries, so that the hot path writes one place only.
struct StatusTotals {
  std::atomic<std::uint64_t> connections;
  std::atomic<std::uint64_t> bytes_sent;
  std::atomic<std::uint64_t> bytes_received;
};

struct StatusPage {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t reserved0;
  std::atomic<std::uint32_t> pid;
  std::atomic<std::uint32_t> entries_used;  // entries [0, entries_used) may be in use
  char partition[kPartitionNameBytes];      // empty: no window
  char window[256];                         // directory, empty: none
  StatusTotals shared_memory;
  StatusTotals kernel;
  std::atomic<std::uint64_t> reasons[wire::kReasonCount];  // connections for each wire::Reason
  std::atomic<std::uint64_t> resets_untrusted;             // peers whose area failed a check
  std::atomic<std::uint64_t> rings_sent;
  std::atomic<std::uint64_t> sleeps;
  std::atomic<std::uint64_t> entries_lost;  // connections without a StatusEntry (table full)
  std::atomic<std::uint64_t>
      kept_back;  // times that another program could not be given a connection
  std::uint8_t reserved1[3072 - 648];
  StatusEntry entry[kStatusEntries];
};

static_assert(sizeof(StatusAddress) == 20);
static_assert(sizeof(StatusEntry) == 152);
static_assert(offsetof(StatusPage, entry) == 3072);

}  // namespace shunt::layout
