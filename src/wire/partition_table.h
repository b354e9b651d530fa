// The partition table of a window: which partitions share it and which IP addresses are whose.
//
// A window is a directory or a device. `shunt window create` writes the table once; drivers, providers and
// the command line only read it. The names of the other files of a window are here too, because both the
// provider and the driver must agree on them. For a window on a device they lie in a directory of the driver's
// (its copy of the table carries kTableAreasFromDriver), and there are no section files.
//
// Encoding: fixed size (kTableBytes), little-endian, explicit offsets, unused bytes zero.
// decode_table() accepts any bytes, which must be the caller's private copy (read(), not a mapping:
// somebody could write the file between check and use).
//
// Pure: no I/O, no allocation. Thread safety: values. A PartitionTable is about 22 KiB: code that may
// run on a small stack decodes into static or mapped memory (decode_table_into).
#pragma once

#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "wire/endpoint.h"

namespace shunt::wire {

inline constexpr std::uint32_t kMaxPartitions = 64;
inline constexpr std::uint32_t kMaxPartitionAddresses = 16;
inline constexpr std::size_t kMaxPartitionName = 31;  // [A-Za-z0-9_-]+

// PartitionTable::flags. Areas are ranges of a device and the driver gives them out: a program that connects
// sends none, and maps what it is told.
inline constexpr std::uint32_t kTableAreasFromDriver = 1;

// Files of a window DIR: DIR/table and, for each partition, DIR/<name><suffix>.
inline constexpr std::string_view kTableFile = "table";
inline constexpr std::string_view kDeviceFile =
    "device";  // only for a window on a device: its name
inline constexpr std::string_view kSectionSuffix = ".section";
inline constexpr std::string_view kDriverSuffix = ".driver";  // SOCK_SEQPACKET, for providers
inline constexpr std::string_view kPeerSuffix = ".peer";      // SOCK_DGRAM, for other drivers

// DIR + '/' + name + suffix + NUL must fit into sockaddr_un::sun_path (108 bytes).
inline constexpr std::size_t kMaxWindowPath =
    sizeof(sockaddr_un::sun_path) - 1 - 1 - kMaxPartitionName - kDriverSuffix.size();
static_assert(kMaxWindowPath == 68);

struct Partition {
  std::uint32_t number = 0;  // 1 .. partition_count; 0 names no partition
  std::uint32_t address_count = 0;
  std::array<char, kMaxPartitionName + 1> name_bytes{};      // NUL-terminated
  std::array<Endpoint, kMaxPartitionAddresses> addresses{};  // port 0

  std::string_view name() const { return name_bytes.data(); }
  bool owns(const Endpoint& endpoint) const;  // compares the address only
};

struct PartitionTable {
  std::uint64_t generation = 0;     // of the window: differs between two windows at one path
  std::uint64_t section_bytes = 0;  // size of every section file
  std::uint32_t count = 0;
  std::uint32_t flags = 0;
  // What a program maps for one area: a multiple of 4096. 0 without kTableAreasFromDriver.
  std::uint64_t area_map_bytes = 0;
  std::array<Partition, kMaxPartitions> partitions{};  // [i].number == i + 1

  // nullptr: no such partition. Pointers are into this table.
  const Partition* by_name(std::string_view name) const;
  const Partition* by_address(const Endpoint& endpoint) const;  // the port is ignored
  const Partition* by_number(std::uint32_t number) const;
};

inline constexpr std::size_t kPartitionBytes = 368;
inline constexpr std::size_t kTableHeaderBytes = 64;
inline constexpr std::size_t kTableBytes = kTableHeaderBytes + kMaxPartitions * kPartitionBytes;
using TableBytes = std::array<std::uint8_t, kTableBytes>;

// What is wrong with a table that somebody asks for; a person gets the text from `shunt window`.
enum class TableFault : std::uint32_t {
  kNone = 0,
  kNoPartitions,
  kTooManyPartitions,
  kBadName,
  kNameTwice,
  kNoAddress,
  kTooManyAddresses,
  kBadAddress,  // no unicast address, or one that every host has (127.0.0.1, ::1)
  kAddressTwice,
};
struct TableCheck {
  TableFault fault = TableFault::kNone;
  std::uint32_t partition = 0;  // index of the offending partition
  std::uint32_t address = 0;    // index of the offending address in it
};
TableCheck check(const PartitionTable& table);
bool valid_partition_name(std::string_view name);

// `table` must pass check().
TableBytes encode_table(const PartitionTable& table);

// EMEDIUMTYPE: not a partition table (magic). EPROTONOSUPPORT: a table of another version.
// EBADMSG: damaged (length, padding, or check() fails).
Result<void> decode_table_into(const std::uint8_t* bytes, std::size_t size, PartitionTable* out);
Result<PartitionTable> decode_table(const std::uint8_t* bytes, std::size_t size);

// The address of a window's socket: "DIR/<name><suffix>". ENAMETOOLONG: DIR has more than
// kMaxWindowPath bytes. EINVAL: DIR is empty or the name is not valid.
Result<sockaddr_un> window_socket(std::string_view dir, std::string_view name,
                                  std::string_view suffix);

}  // namespace shunt::wire
