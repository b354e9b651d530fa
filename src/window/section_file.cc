#include "window/section_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "window/error.h"
#include "window/fault_guard.h"
#include "window/table_file.h"

namespace shunt::window {
namespace {

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
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

bool try_lock(int section_fd) {
  struct flock lock = whole_file(F_WRLCK);
  return ::fcntl(section_fd, F_OFD_SETLK, &lock) == 0;
}

SectionFile::SectionFile(const Backing& backing, const wire::Partition& partition, Access access)
    : access_(access),
      geometry_(layout::section_geometry(backing.table.section_bytes, backing.table.count)) {
  const wire::PartitionTable& table = backing.table;
  const std::string path = window_file(backing.directory, partition.name(), wire::kSectionSuffix);
  const int mode = access == Access::kReadWrite ? O_RDWR : O_RDONLY;
  fd_.reset(::open(path.c_str(), mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd_) {
    const char* hint = errno == EACCES || errno == EPERM
                           ? "; only the window's owner and root may open it"
                           : "; the window is damaged: destroy it and create it again";
    throw WindowError(fmt::format("cannot open {}: {}{}", path, std::strerror(errno), hint));
  }
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0 || !S_ISREG(st.st_mode) ||
      static_cast<std::uint64_t>(st.st_size) != table.section_bytes) {
    throw WindowError(
        fmt::format("{} is damaged: it should have {} bytes; destroy the window and "
                    "create it again",
                    path, table.section_bytes));
  }
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* memory = ::mmap(nullptr, table.section_bytes, protection, MAP_SHARED, fd_.get(), 0);
  if (memory == MAP_FAILED) {
    throw WindowError(fmt::format("cannot map {}: {}", path, std::strerror(errno)));
  }
  section_ = static_cast<layout::Section*>(memory);
  guard_mapping(memory, table.section_bytes);
  if (!identity_matches(section_->header.identity, table, partition, geometry_)) {
    unguard_mapping(memory);
    ::munmap(memory, table.section_bytes);
    throw WindowError(
        fmt::format("{} is not the section of partition '{}' in this window; destroy "
                    "the window and create it again",
                    path, partition.name()));
  }
}

SectionFile::~SectionFile() {
  unguard_mapping(section_);
  ::munmap(section_, geometry_.section_bytes);
}

bool SectionFile::locked() const {
  struct flock lock = whole_file(F_WRLCK);
  return ::fcntl(fd_.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

}  // namespace shunt::window
