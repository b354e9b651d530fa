#include "window/section_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "window/error.h"
#include "window/table_file.h"

namespace shunt::window {
namespace {

struct flock record_lock(LockRange range) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.start);
  lock.l_len = static_cast<off_t>(range.bytes);
  return lock;
}

bool identity_matches(const layout::SectionIdentity& found, const wire::PartitionTable& table,
                      const wire::Partition& partition, const layout::SectionGeometry& geometry) {
  layout::SectionIdentity copy;
  std::memcpy(&copy, &found, sizeof copy);
  return copy.magic == layout::kSectionMagic && copy.version == layout::kSectionVersion &&
         copy.wire_version == wire::kWireVersion && copy.partition == partition.number &&
         copy.partition_count == table.count && copy.window_generation == table.generation &&
         copy.section_bytes == table.section_bytes && copy.lane_entries == geometry.lane_entries &&
         copy.buffer_bytes == layout::kBufferBytes;
}

}  // namespace

LockRange section_lock(const Backing& backing, std::uint32_t number) {
  if (!backing.device) return {};
  return {backing.device->base + backing.geometry.section_offset(number), 1};
}

bool try_lock(int fd, LockRange range) {
  struct flock lock = record_lock(range);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

bool locked(int fd, LockRange range) {
  struct flock lock = record_lock(range);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

SectionFile::SectionFile(const Backing& backing, const wire::Partition& partition, Access access)
    : lock_(section_lock(backing, partition.number)),
      access_(access),
      geometry_(layout::section_geometry(backing.table.section_bytes, backing.table.count)) {
  if (backing.device) {
    open_range(backing, partition);
  } else {
    open_file(backing, partition);
  }
  if (!identity_matches(section()->header.identity, backing.table, partition, geometry_)) {
    throw WindowError(
        fmt::format("the section of partition '{}' in window {} is damaged, or that of another "
                    "window: it is not the section that the partition table means; destroy the "
                    "window and create it again",
                    partition.name(), backing.spec));
  }
}

void SectionFile::open_range(const Backing& backing, const wire::Partition& partition) {
  const layout::DeviceGeometry& g = backing.geometry;
  fd_ = backing.device->fresh_descriptor();
  memory_ = Mapping(
      fd_.get(), lock_.start, access_ == Access::kReadWrite ? g.section_stride : g.arena_offset,
      access_, fmt::format("the section of partition '{}' in {}", partition.name(), backing.spec));
}

void SectionFile::open_file(const Backing& backing, const wire::Partition& partition) {
  const std::string path = window_file(backing.directory, partition.name(), wire::kSectionSuffix);
  const int mode = access_ == Access::kReadWrite ? O_RDWR : O_RDONLY;
  fd_.reset(::open(path.c_str(), mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd_) {
    const char* hint = errno == EACCES || errno == EPERM
                           ? "; only the window's owner and root may open it"
                           : "; the window is damaged: destroy it and create it again";
    throw WindowError(fmt::format("cannot open {}: {}{}", path, std::strerror(errno), hint));
  }
  const std::uint64_t bytes = geometry_.section_bytes;
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0 || !S_ISREG(st.st_mode) ||
      static_cast<std::uint64_t>(st.st_size) != bytes) {
    throw WindowError(
        fmt::format("{} is damaged: it should have {} bytes; destroy the window and "
                    "create it again",
                    path, bytes));
  }
  memory_ = Mapping(fd_.get(), 0, bytes, access_, path);
}

}  // namespace shunt::window
