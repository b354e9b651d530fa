// partition_table: the file or the device's page that says which partitions share a window (wire/partition_table.h)
//
// Untrusted: every byte, and how many there are (the file may be anybody's who may write the window). Asserted:
// decode_table() reads nothing beyond `size`; it refuses with one of its three errors or gives a table that passes
// check(), encodes to the very same bytes and finds each of its partitions by name, number and address; a table
// made of any fields that passes check() comes back as it was.
#include <cerrno>
#include <cstring>
#include <memory>

#include "fuzz/harness.h"
#include "wire/partition_table.h"
#include "wire/version.h"

namespace shunt::fuzz {
namespace {

using wire::Partition;
using wire::PartitionTable;

Mark decoded("bytes decoded");
Mark refused("bytes refused behind the version");
Mark built("fields accepted");
Mark faulty("fields refused");

constexpr std::size_t kVersionsEnd = 12;  // magic and the two versions

void check_lookups(const PartitionTable& table) {
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const Partition& p = table.partitions[i];
    require(p.number == i + 1 && table.by_number(i + 1) == &p, "found by number");
    require(wire::valid_partition_name(p.name()), "a valid name");
    require(table.by_name(p.name()) == &p, "found by name");
    require(p.address_count >= 1 && p.address_count <= p.addresses.size(), "a few addresses");
    for (std::uint32_t a = 0; a < p.address_count; ++a) {
      require(p.addresses[a].port == 0 && !p.addresses[a].is_any(), "an address of its own");
      require(table.by_address(p.addresses[a]) == &p, "found by address");
    }
    require(wire::window_socket("/w", p.name(), wire::kDriverSuffix).ok(), "a socket's name");
  }
  require(table.by_number(0) == nullptr && table.by_number(table.count + 1) == nullptr,
          "no others");
}

void check_decoded(const PartitionTable& table, const std::uint8_t* bytes) {
  require(wire::check(table).fault == wire::TableFault::kNone, "what was decoded passes check()");
  require((table.flags & ~wire::kTableAreasFromDriver) == 0, "known flags");
  require((table.flags != 0) == (table.area_map_bytes != 0), "areas from the driver have a size");
  require(table.area_map_bytes % 4096 == 0, "areas are whole pages");
  check_lookups(table);
  const auto again = std::make_unique<wire::TableBytes>(wire::encode_table(table));
  require(std::memcmp(again->data(), bytes, again->size()) == 0, "one table, one encoding");
}

void check_bytes(const Bytes& bytes) {
  const auto table = std::make_unique<PartitionTable>();
  const auto result = wire::decode_table_into(bytes.data(), bytes.size(), table.get());
  if (result.ok()) {
    require(bytes.size() == wire::kTableBytes, "a table has one size");
    check_decoded(*table, bytes.data());
    return decoded.reached();
  }
  const int error = result.error();
  require(error == EMEDIUMTYPE || error == EPROTONOSUPPORT || error == EBADMSG, "a known error");
  if (error == EBADMSG) refused.reached();
}

// Magic and versions, then the input, then zeros: what a table of few partitions is.
Bytes dressed(Input& in) {
  Bytes bytes(wire::kTableBytes);
  const auto pattern = std::make_unique<wire::TableBytes>(wire::encode_table(PartitionTable{}));
  std::memcpy(bytes.data(), pattern->data(), kVersionsEnd);
  in.overlay(bytes.data() + kVersionsEnd, bytes.size() - kVersionsEnd);
  return bytes;
}

void check_fields(Input& in) {
  const auto table = std::make_unique<PartitionTable>();
  table->generation = in.number();
  table->section_bytes = in.number();
  table->area_map_bytes = std::uint64_t{in.take<std::uint8_t>()} * 4096;
  table->flags = table->area_map_bytes != 0 ? wire::kTableAreasFromDriver : 0;
  table->count = in.below(wire::kMaxPartitions + 1);
  for (std::uint32_t i = 0; i < table->count; ++i) {
    Partition& p = table->partitions[i];
    p.number = i + 1;
    const std::uint32_t length = in.below(wire::kMaxPartitionName + 1);
    for (std::uint32_t c = 0; c < length; ++c) p.name_bytes[c] = in.take<char>();
    p.address_count = in.below(wire::kMaxPartitionAddresses + 1);
    for (std::uint32_t a = 0; a < p.address_count; ++a) {
      p.addresses[a].family = in.flip() ? AF_INET6 : AF_INET;
      in.overlay(p.addresses[a].address.data(), p.addresses[a].family == AF_INET ? 4 : 16);
    }
  }
  if (wire::check(*table).fault != wire::TableFault::kNone) return faulty.reached();
  built.reached();
  const auto bytes = std::make_unique<wire::TableBytes>(wire::encode_table(*table));
  const auto again = std::make_unique<PartitionTable>();
  require(wire::decode_table_into(bytes->data(), bytes->size(), again.get()).ok(), "it decodes");
  require(again->generation == table->generation && again->count == table->count &&
              again->section_bytes == table->section_bytes,
          "it comes back as it was");
  check_decoded(*again, bytes->data());
}

}  // namespace

std::vector<Bytes> seeds() {
  const auto table = std::make_unique<PartitionTable>();
  table->generation = 0x0123456789abcdef;
  table->section_bytes = 1 << 20;
  std::vector<Bytes> all;
  for (const std::uint8_t name : {'a', 'b', 'c'}) {
    Partition& p = table->partitions[table->count++];
    p.number = table->count;
    p.name_bytes[0] = static_cast<char>(name);
    p.address_count = 2;
    p.addresses[0].family = AF_INET;
    p.addresses[0].address = {10, 77, 0, name};
    p.addresses[1].family = AF_INET6;
    p.addresses[1].address = {0xfd, 0, 0, name};
    const wire::TableBytes bytes = wire::encode_table(*table);
    const std::size_t used = wire::kTableHeaderBytes + table->count * wire::kPartitionBytes;
    all.emplace_back(1, std::uint8_t{0});
    all.back().insert(all.back().end(), bytes.begin() + kVersionsEnd, bytes.begin() + used);
    all.emplace_back(1, std::uint8_t{1});
    all.back().insert(all.back().end(), bytes.begin(), bytes.begin() + used);
  }
  all.push_back(all.front());
  std::memset(all.back().data() + 1 + wire::kTableHeaderBytes - kVersionsEnd + 8, 'a',
              wire::kMaxPartitionName);  // the longest name
  all.push_back({2, 9, 8, 5, 2, 1, 'a', 1, 0, 10, 0, 0, 1, 1, 'b', 1, 0, 10, 0, 0, 2});
  all.push_back({2, 9, 8, 0, 2, 1, 'a', 1, 0, 10, 0, 0, 1, 1, 'b', 1, 0, 10, 0, 0, 1});
  return all;
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  Input in(data, size);
  switch (in.below(3)) {
    case 0:
      check_bytes(dressed(in));
      break;
    case 1:
      check_bytes(in.rest());
      break;
    default:
      check_fields(in);
  }
  return 0;
}
