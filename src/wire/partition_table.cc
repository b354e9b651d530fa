#include "wire/partition_table.h"

#include <cerrno>
#include <cstring>

#include "wire/version.h"

namespace shunt::wire {
namespace {

// Header: offsets in the file. What is not listed is zero.
constexpr std::uint8_t kMagic[8] = {'S', 'H', 'U', 'N', 'T', 'T', 'B', 'L'};
constexpr std::size_t kAtWireVersion = 8;     // u16
constexpr std::size_t kAtLayoutVersion = 10;  // u16
constexpr std::size_t kAtCount = 12;          // u32
constexpr std::size_t kAtGeneration = 16;     // u64
constexpr std::size_t kAtSectionBytes = 24;   // u64
constexpr std::size_t kAtFlags = 32;          // u32
constexpr std::size_t kFlagsEnd = 36;
constexpr std::size_t kAtAreaMapBytes = 40;  // u64
constexpr std::size_t kHeaderEnd = 48;
constexpr std::uint64_t kPage = 4096;

// Partition record: offsets in the record.
constexpr std::size_t kAtNumber = 0;        // u32
constexpr std::size_t kAtAddressCount = 4;  // u32
constexpr std::size_t kAtName = 8;          // 32 bytes
constexpr std::size_t kAtAddresses = 40;    // 16 x 20 bytes: family u16, 0 u16, 16 bytes
constexpr std::size_t kAddressBytes = 20;
constexpr std::size_t kRecordEnd = kAtAddresses + kMaxPartitionAddresses * kAddressBytes;
static_assert(kRecordEnd <= kPartitionBytes);

template <typename T>
void put(std::uint8_t* out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out[i] = static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}

template <typename T>
T get(const std::uint8_t* in) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{in[i]} << (8 * i);
  return static_cast<T>(value);
}

bool all_zero(const std::uint8_t* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

bool name_char(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

// A unicast address that can be one partition's own.
bool assignable(const Endpoint& e) {
  if (e.port != 0 || e.is_any()) return false;
  if (e.family == AF_INET) {
    if (!all_zero(e.address.data() + 4, 12)) return false;
    if (e.address[0] >= 224 || e.address[0] == 0) return false;  // multicast, reserved, broadcast
    const std::uint8_t every_host[4] = {127, 0, 0, 1};
    return std::memcmp(e.address.data(), every_host, 4) != 0;
  }
  return e.family == AF_INET6 && e.address[0] != 0xff && !e.is_loopback();
}

void encode_partition(const Partition& p, std::uint8_t* out) {
  put<std::uint32_t>(out + kAtNumber, p.number);
  put<std::uint32_t>(out + kAtAddressCount, p.address_count);
  std::memcpy(out + kAtName, p.name_bytes.data(), p.name().size());
  for (std::uint32_t i = 0; i < p.address_count; ++i) {
    std::uint8_t* at = out + kAtAddresses + i * kAddressBytes;
    put<std::uint16_t>(at, p.addresses[i].family);
    std::memcpy(at + 4, p.addresses[i].address.data(), 16);
  }
}

bool decode_partition(const std::uint8_t* in, Partition* p) {
  p->number = get<std::uint32_t>(in + kAtNumber);
  p->address_count = get<std::uint32_t>(in + kAtAddressCount);
  if (p->address_count > kMaxPartitionAddresses) return false;
  std::memcpy(p->name_bytes.data(), in + kAtName, p->name_bytes.size());
  if (p->name_bytes.back() != '\0') return false;
  const std::size_t name_size = p->name().size();
  if (!all_zero(in + kAtName + name_size, p->name_bytes.size() - name_size)) return false;
  for (std::uint32_t i = 0; i < p->address_count; ++i) {
    const std::uint8_t* at = in + kAtAddresses + i * kAddressBytes;
    p->addresses[i].family = get<std::uint16_t>(at);
    if (!all_zero(at + 2, 2)) return false;
    std::memcpy(p->addresses[i].address.data(), at + 4, 16);
  }
  const std::size_t used = kAtAddresses + p->address_count * kAddressBytes;
  return all_zero(in + used, kPartitionBytes - used);
}

TableCheck check_partition(const PartitionTable& table, std::uint32_t index) {
  const Partition& p = table.partitions[index];
  if (!valid_partition_name(p.name())) return {TableFault::kBadName, index, 0};
  for (std::uint32_t j = 0; j < index; ++j) {
    if (table.partitions[j].name() == p.name()) return {TableFault::kNameTwice, index, 0};
  }
  if (p.address_count == 0) return {TableFault::kNoAddress, index, 0};
  if (p.address_count > kMaxPartitionAddresses) return {TableFault::kTooManyAddresses, index, 0};
  for (std::uint32_t a = 0; a < p.address_count; ++a) {
    if (!assignable(p.addresses[a])) return {TableFault::kBadAddress, index, a};
    for (std::uint32_t b = 0; b < a; ++b) {
      if (p.addresses[a].same_address(p.addresses[b])) return {TableFault::kAddressTwice, index, a};
    }
    for (std::uint32_t j = 0; j < index; ++j) {
      if (table.partitions[j].owns(p.addresses[a])) return {TableFault::kAddressTwice, index, a};
    }
  }
  return {};
}

}  // namespace

bool Partition::owns(const Endpoint& endpoint) const {
  for (std::uint32_t i = 0; i < address_count; ++i) {
    if (addresses[i].same_address(endpoint)) return true;
  }
  return false;
}

const Partition* PartitionTable::by_name(std::string_view name) const {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (partitions[i].name() == name) return &partitions[i];
  }
  return nullptr;
}

const Partition* PartitionTable::by_address(const Endpoint& endpoint) const {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (partitions[i].owns(endpoint)) return &partitions[i];
  }
  return nullptr;
}

const Partition* PartitionTable::by_number(std::uint32_t number) const {
  return number >= 1 && number <= count ? &partitions[number - 1] : nullptr;
}

bool valid_partition_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxPartitionName) return false;
  for (const char c : name) {
    if (!name_char(c)) return false;
  }
  return true;
}

TableCheck check(const PartitionTable& table) {
  if (table.count == 0) return {TableFault::kNoPartitions, 0, 0};
  if (table.count > kMaxPartitions) return {TableFault::kTooManyPartitions, 0, 0};
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const TableCheck found = check_partition(table, i);
    if (found.fault != TableFault::kNone) return found;
  }
  return {};
}

TableBytes encode_table(const PartitionTable& table) {
  TableBytes out{};
  std::memcpy(out.data(), kMagic, sizeof kMagic);
  put<std::uint16_t>(out.data() + kAtWireVersion, kWireVersion);
  put<std::uint16_t>(out.data() + kAtLayoutVersion, kLayoutVersion);
  put<std::uint32_t>(out.data() + kAtCount, table.count);
  put<std::uint64_t>(out.data() + kAtGeneration, table.generation);
  put<std::uint64_t>(out.data() + kAtSectionBytes, table.section_bytes);
  put<std::uint32_t>(out.data() + kAtFlags, table.flags);
  put<std::uint64_t>(out.data() + kAtAreaMapBytes, table.area_map_bytes);
  for (std::uint32_t i = 0; i < table.count; ++i) {
    encode_partition(table.partitions[i], out.data() + kTableHeaderBytes + i * kPartitionBytes);
  }
  return out;
}

Result<void> decode_table_into(const std::uint8_t* bytes, std::size_t size, PartitionTable* out) {
  *out = PartitionTable{};
  if (size < kAtCount || std::memcmp(bytes, kMagic, sizeof kMagic) != 0) return Error{EMEDIUMTYPE};
  if (get<std::uint16_t>(bytes + kAtWireVersion) != kWireVersion ||
      get<std::uint16_t>(bytes + kAtLayoutVersion) != kLayoutVersion) {
    return Error{EPROTONOSUPPORT};
  }
  if (size != kTableBytes) return Error{EBADMSG};
  const auto count = get<std::uint32_t>(bytes + kAtCount);
  if (count > kMaxPartitions) return Error{EBADMSG};
  out->generation = get<std::uint64_t>(bytes + kAtGeneration);
  out->section_bytes = get<std::uint64_t>(bytes + kAtSectionBytes);
  out->flags = get<std::uint32_t>(bytes + kAtFlags);
  out->area_map_bytes = get<std::uint64_t>(bytes + kAtAreaMapBytes);
  if ((out->flags & ~kTableAreasFromDriver) != 0 || out->area_map_bytes % kPage != 0) {
    return Error{EBADMSG};
  }
  if ((out->flags != 0) != (out->area_map_bytes != 0)) return Error{EBADMSG};
  if (!all_zero(bytes + kFlagsEnd, kAtAreaMapBytes - kFlagsEnd)) return Error{EBADMSG};
  if (!all_zero(bytes + kHeaderEnd, kTableHeaderBytes - kHeaderEnd)) return Error{EBADMSG};
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint8_t* record = bytes + kTableHeaderBytes + i * kPartitionBytes;
    if (!decode_partition(record, &out->partitions[i])) return Error{EBADMSG};
    if (out->partitions[i].number != i + 1) return Error{EBADMSG};
  }
  const std::size_t used = kTableHeaderBytes + count * kPartitionBytes;
  if (!all_zero(bytes + used, kTableBytes - used)) return Error{EBADMSG};
  out->count = count;
  if (check(*out).fault != TableFault::kNone) return Error{EBADMSG};
  return {};
}

Result<PartitionTable> decode_table(const std::uint8_t* bytes, std::size_t size) {
  Result<PartitionTable> table{PartitionTable{}};
  const auto decoded = decode_table_into(bytes, size, &table.value());
  if (!decoded.ok()) return Error{decoded.error()};
  return table;
}

Result<sockaddr_un> window_socket(std::string_view dir, std::string_view name,
                                  std::string_view suffix) {
  if (dir.empty() || !valid_partition_name(name)) return Error{EINVAL};
  if (dir.size() > kMaxWindowPath) return Error{ENAMETOOLONG};
  sockaddr_un address{};
  if (dir.size() + 1 + name.size() + suffix.size() >= sizeof address.sun_path) {
    return Error{ENAMETOOLONG};
  }
  address.sun_family = AF_UNIX;
  char* at = address.sun_path;
  std::memcpy(at, dir.data(), dir.size());
  at += dir.size();
  *at++ = '/';
  std::memcpy(at, name.data(), name.size());
  std::memcpy(at + name.size(), suffix.data(), suffix.size());
  return address;
}

}  // namespace shunt::wire
