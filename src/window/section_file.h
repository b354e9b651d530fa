// Sections of a window: mapped, and locked by the one driver that writes them.
//
// The lock is an open-file-description record lock over the section's file; on a device, over the
// first byte of the section. The kernel drops it when the driver dies in whatever way, and it can
// be tested without being taken, so that nobody who looks disturbs a driver that starts. It tells
// of this kernel only: whether another kernel's driver lives, on a device, only its heart says
// (hearts.h).
//
// A foreign section can be truncated by its owner while we read it; the pages that vanish are
// replaced by zeros (fault_guard.h), which every reader refuses as a lane of generation 0.
//
// Thread safety: objects are used by one thread. Errors: WindowError.
#pragma once

#include <cstdint>

#include "layout/section.h"
#include "window/backing.h"
#include "window/mapping.h"
#include "window/unique_fd.h"

namespace shunt::window {

// The bytes that a section's lock covers.
struct LockRange {
  std::uint64_t start = 0;
  std::uint64_t bytes = 0;  // 0: to the end of the file
};
LockRange section_lock(const Backing& backing, std::uint32_t number);

// `fd`: opened for writing. False: another open file description holds it.
bool try_lock(int fd, LockRange range = {});
bool locked(int fd, LockRange range = {});  // by another one

class SectionFile {
 public:
  // The section must say that it is that of `partition` in this window. kReadWrite on a device
  // needs a backing that was opened so, and maps all of the section's range, its arena included;
  // otherwise only the control block is mapped.
  SectionFile(const Backing& backing, const wire::Partition& partition, Access access);
  SectionFile(const SectionFile&) = delete;
  SectionFile& operator=(const SectionFile&) = delete;

  const layout::Section* section() const { return at(); }
  layout::Section* writable() { return access_ == Access::kReadWrite ? at() : nullptr; }
  const layout::SectionGeometry& geometry() const { return geometry_; }

  bool try_lock() { return window::try_lock(fd_.get(), lock_); }  // kReadWrite only
  bool locked() const { return window::locked(fd_.get(), lock_); }
  // The section is somebody else's by now: nothing that is written through this object reaches it any more.
  void cut_off() { memory_.cut_off(); }

 private:
  layout::Section* at() const { return reinterpret_cast<layout::Section*>(memory_.data()); }
  void open_file(const Backing& backing, const wire::Partition& partition);
  void open_range(const Backing& backing, const wire::Partition& partition);

  UniqueFd fd_;  // an open file description of its own: two objects never share a lock
  LockRange lock_;
  Access access_;
  layout::SectionGeometry geometry_;
  Mapping memory_;
};

}  // namespace shunt::window
