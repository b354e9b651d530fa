// The partition table of a window directory: planned, written, read.
//
// A table is read into private memory and validated before anything is believed. All functions throw
// WindowError. Thread safety: no shared state.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "wire/partition_table.h"

namespace shunt::window {

inline constexpr std::uint64_t kSectionBytesDefault = 1 << 20;

struct PartitionSpec {
  std::string name;
  std::vector<std::string> addresses;
};

// "a=10.77.0.1,fd00::1", as `shunt window create --partition` takes it.
PartitionSpec parse_partition(const std::string& text);

// `size`: bytes of the whole window, shared equally by the sections; nullopt: the default.
wire::PartitionTable plan_table(const std::vector<PartitionSpec>& partitions,
                                std::optional<std::uint64_t> size);

struct TableFile {
  wire::PartitionTable table;
  uid_t owner = 0;  // of the window: owner of the directory and of the table
  gid_t group = 0;
};
TableFile load_table(const std::string& dir);

// The partition of that name; WindowError lists the names that exist.
const wire::Partition& require_partition(const std::string& dir, const wire::PartitionTable& table,
                                         const std::string& name);

// DIR is short enough for the sockets that live in it.
void require_window_path(const std::string& dir);

std::string window_file(const std::string& dir, std::string_view name, std::string_view suffix);

}  // namespace shunt::window
