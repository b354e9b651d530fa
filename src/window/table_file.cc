#include "window/table_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "layout/section.h"
#include "window/address.h"
#include "window/error.h"
#include "window/unique_fd.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kSectionBytesMax = 1ULL << 40;

[[noreturn]] void fail(const std::string& text) { throw WindowError(text); }

wire::Partition plan_partition(const PartitionSpec& spec, std::uint32_t number) {
  wire::Partition p;
  p.number = number;
  if (!wire::valid_partition_name(spec.name)) {
    fail(fmt::format("bad partition name '{}': use 1 to {} characters of A-Z a-z 0-9 _ -",
                     spec.name, wire::kMaxPartitionName));
  }
  spec.name.copy(p.name_bytes.data(), wire::kMaxPartitionName);
  if (spec.addresses.size() > wire::kMaxPartitionAddresses) {
    fail(fmt::format("partition '{}' has {} addresses: at most {} are possible", spec.name,
                     spec.addresses.size(), wire::kMaxPartitionAddresses));
  }
  for (const std::string& text : spec.addresses) {
    const auto address = parse_address(text);
    if (!address) {
      fail(
          fmt::format("bad address '{}' of partition '{}': give IPv4 or IPv6 addresses separated "
                      "by commas, e.g. --partition {}=10.77.0.1,fd00::1",
                      text, spec.name, spec.name));
    }
    p.addresses[p.address_count++] = *address;
  }
  return p;
}

void require_consistent(const wire::PartitionTable& table) {
  const wire::TableCheck found = wire::check(table);
  const wire::Partition& p = table.partitions[found.partition];
  const std::string address = address_text(p.addresses[found.address]);
  switch (found.fault) {
    case wire::TableFault::kNone:
      return;
    case wire::TableFault::kNoPartitions:
      fail("a window needs a partition: give --partition NAME=ADDRESS[,ADDRESS...]");
    case wire::TableFault::kNameTwice:
      fail(fmt::format("partition name '{}' is given twice: every partition needs its own name",
                       p.name()));
    case wire::TableFault::kNoAddress:
      fail(fmt::format("partition '{}' has no address: give --partition {}=ADDRESS", p.name(),
                       p.name()));
    case wire::TableFault::kBadAddress:
      fail(
          fmt::format("address {} cannot belong to partition '{}': it is not a unicast address, or "
                      "every host has it",
                      address, p.name()));
    case wire::TableFault::kAddressTwice:
      fail(
          fmt::format("address {} is claimed twice: by partition '{}' and by '{}'; an address "
                      "belongs to one partition",
                      address, table.by_address(p.addresses[found.address])->name(), p.name()));
    case wire::TableFault::kTooManyPartitions:
    case wire::TableFault::kTooManyAddresses:
    case wire::TableFault::kBadName:
      fail("bad partition table");
  }
}

std::uint64_t plan_section_bytes(std::uint32_t count, std::optional<std::uint64_t> size) {
  if (!size) return std::max(kSectionBytesDefault, layout::section_bytes_min(count));
  const std::uint64_t least = layout::section_bytes_min(count);
  const std::uint64_t each = *size / count & ~std::uint64_t{4095};
  if (each < least) {
    fail(fmt::format("size {} is too small for {} partitions: give --size {} or more", *size, count,
                     least * count));
  }
  if (each > kSectionBytesMax) {
    fail(fmt::format("size {} is too large: at most {} bytes for each partition", *size,
                     kSectionBytesMax));
  }
  return each;
}

[[noreturn]] void fail_open(const std::string& dir, int error) {
  struct stat st {};
  if (::stat(dir.c_str(), &st) != 0) {
    fail(fmt::format("window {}: {}; make it with `shunt window create {} --partition ...`", dir,
                     errno == ENOENT ? "no such directory" : std::strerror(errno), dir));
  }
  if (!S_ISDIR(st.st_mode)) fail(fmt::format("window {}: not a directory", dir));
  if (error == ENOENT) {
    fail(fmt::format("{} is not a window of Shunt: it has no file '{}'", dir, wire::kTableFile));
  }
  fail(fmt::format("cannot open {}/{}: {}", dir, wire::kTableFile, std::strerror(error)));
}

}  // namespace

PartitionSpec parse_partition(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail(
        fmt::format("bad partition '{}': write NAME=ADDRESS[,ADDRESS...], e.g. a=10.77.0.1", text));
  }
  PartitionSpec spec;
  spec.name = text.substr(0, equals);
  for (std::size_t at = equals + 1; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    spec.addresses.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return spec;
}

wire::PartitionTable plan_table(const std::vector<PartitionSpec>& partitions,
                                std::optional<std::uint64_t> size) {
  if (partitions.size() > wire::kMaxPartitions) {
    fail(fmt::format("{} partitions: a window has at most {}", partitions.size(),
                     wire::kMaxPartitions));
  }
  wire::PartitionTable table;
  for (const PartitionSpec& spec : partitions) {
    table.partitions[table.count] = plan_partition(spec, table.count + 1);
    ++table.count;
  }
  require_consistent(table);
  table.section_bytes = plan_section_bytes(table.count, size);
  while (table.generation == 0) {
    if (::getrandom(&table.generation, sizeof table.generation, 0) < 0 && errno != EINTR) {
      fail(fmt::format("no random numbers from the kernel: {}", std::strerror(errno)));
    }
  }
  return table;
}

TableFile load_table(const std::string& dir) {
  require_window_path(dir);
  const std::string path = dir + "/" + std::string(wire::kTableFile);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) fail_open(dir, errno);
  struct stat st {};
  struct stat dir_st {};
  if (::fstat(fd.get(), &st) != 0 || ::stat(dir.c_str(), &dir_st) != 0) fail_open(dir, errno);
  if (!S_ISREG(st.st_mode)) {
    fail(fmt::format("{} is not a window of Shunt: {} is not a regular file", dir, path));
  }
  if (st.st_uid != dir_st.st_uid && st.st_uid != 0) {
    fail(fmt::format("{} is not a window to trust: {} belongs to uid {}, the directory to uid {}",
                     dir, path, st.st_uid, dir_st.st_uid));
  }
  std::vector<std::uint8_t> bytes(wire::kTableBytes + 1);  // + 1: notices a longer file
  const ssize_t size = ::pread(fd.get(), bytes.data(), bytes.size(), 0);
  if (size < 0) fail(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  TableFile file;
  const auto decoded =
      wire::decode_table_into(bytes.data(), static_cast<std::size_t>(size), &file.table);
  if (decoded.error() == EMEDIUMTYPE) {
    fail(fmt::format("{} is not a window of Shunt: {} is something else", dir, path));
  }
  if (decoded.error() == EPROTONOSUPPORT) {
    fail(
        fmt::format("window {} was made by another version of Shunt: destroy it with that version "
                    "and create it again",
                    dir));
  }
  if (!decoded.ok() ||
      layout::section_geometry(file.table.section_bytes, file.table.count).lane_entries == 0) {
    fail(
        fmt::format("window {} is damaged: {} does not hold a valid partition table; remove the "
                    "directory and create the window again",
                    dir, path));
  }
  file.owner = st.st_uid;
  file.group = st.st_gid;
  return file;
}

const wire::Partition& require_partition(const std::string& dir, const wire::PartitionTable& table,
                                         const std::string& name) {
  if (const wire::Partition* p = table.by_name(name)) return *p;
  std::string names;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    names += fmt::format("{}{}", i == 0 ? "" : ", ", table.partitions[i].name());
  }
  fail(fmt::format("window {} has no partition '{}': it has {}", dir, name, names));
}

void require_window_path(const std::string& dir) {
  if (dir.empty()) fail("no window given: name its directory, e.g. --window /dev/shm/w");
  if (dir.size() > wire::kMaxWindowPath) {
    fail(
        fmt::format("window path {} has {} bytes: at most {} are possible, because the names of "
                    "the sockets in it are limited",
                    dir, dir.size(), wire::kMaxWindowPath));
  }
}

std::string window_file(const std::string& dir, std::string_view name, std::string_view suffix) {
  return fmt::format("{}/{}{}", dir, name, suffix);
}

}  // namespace shunt::window
