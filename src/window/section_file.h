// Section files of a window: mapped, and locked by the one driver that writes them.
//
// The lock is an open-file-description record lock over the file: the kernel drops it when the
// driver dies in whatever way, and it can be tested without being taken, so that nobody who looks
// disturbs a driver that starts.
//
// A foreign section can be truncated by its owner while we read it; the pages that vanish are
// replaced by zeros (fault_guard.h), which every reader refuses as a lane of generation 0.
//
// Thread safety: objects are used by one thread. Errors: WindowError.
#pragma once

#include "layout/section.h"
#include "window/backing.h"
#include "window/unique_fd.h"
#include "wire/partition_table.h"

namespace shunt::window {

enum class Access { kReadOnly, kReadWrite };

bool try_lock(int section_fd);  // a descriptor opened for writing; false: somebody else holds it

class SectionFile {
 public:
  // The section must say that it is that of `partition` in this window.
  SectionFile(const Backing& backing, const wire::Partition& partition, Access access);
  ~SectionFile();
  SectionFile(const SectionFile&) = delete;
  SectionFile& operator=(const SectionFile&) = delete;

  const layout::Section* section() const { return section_; }
  layout::Section* writable() { return access_ == Access::kReadWrite ? section_ : nullptr; }
  const layout::SectionGeometry& geometry() const { return geometry_; }

  bool try_lock() { return window::try_lock(fd_.get()); }  // kReadWrite only
  bool locked() const;                                     // by somebody else

 private:
  UniqueFd fd_;
  Access access_;
  layout::SectionGeometry geometry_;
  layout::Section* section_ = nullptr;
};

}  // namespace shunt::window
