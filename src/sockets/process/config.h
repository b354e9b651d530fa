// What the environment of a shunted program says: SHUNT_WINDOW, SHUNT_PARTITION, SHUNT_REQUIRE, and
// the partition table of that window.
//
// Read once, at start-up, before the program runs: it may clear its environment or change its root
// afterwards. A window that cannot be used (no table, damaged, path too long, partition not in it)
// leaves the program in one partition; nothing fails.
// Thread safety: read_config() before there are threads; the rest is constant afterwards.
#pragma once

#include <cstdint>

#include "wire/partition_table.h"

namespace shunt::sockets {

void read_config();

// As given, "" when not; at most wire::kMaxWindowPath and wire::kMaxPartitionName bytes long.
const char* config_window();
const char* config_partition();
// SHUNT_REQUIRE: a connection that cannot use shared memory fails instead of using kernel TCP.
bool require_shared_memory();

// Both null, or both not: the window's table and the entry of the own partition in it.
const wire::PartitionTable* partition_table();
const wire::Partition* own_partition();
// The window is on a device: the driver gives the areas out, and each is to be mapped with area_map_bytes() bytes.
bool areas_from_driver();
std::uint32_t area_map_bytes();
// The partition that owns `endpoint`'s address, unless it is the own one; null: none.
const char* partition_name_of(const wire::Endpoint& endpoint);
// The owner of DIR/table, whom programs in the window trust as its administrator. 0 without a window.
std::uint32_t window_owner_uid();

}  // namespace shunt::sockets
