#include "window/device_format.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "base/untrusted.h"
#include "ring/fence.h"
#include "window/device_contents.h"
#include "window/error.h"
#include "window/hearts.h"
#include "window/manage.h"
#include "window/runtime_directory.h"
#include "window/superblock.h"

namespace shunt::window {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kPage = 4096;

[[noreturn]] void fail(const std::string& text) { throw WindowError(text); }

layout::DeviceSuperblock& superblock(const Mapping& head) {
  return *reinterpret_cast<layout::DeviceSuperblock*>(head.data());
}

// What is in memory is also in the file before the next step; a device has no other place.
void complete(const Mapping& mapping, const std::function<void()>& after_step) {
  ring::full_fence();
  ::msync(mapping.data(), mapping.bytes(), MS_SYNC);
  if (after_step) after_step();
}

void require_nothing_there(const DeviceObject& object, const Backing* window) {
  if (window != nullptr) {
    fail(
        fmt::format("{} holds a window with {} partitions already; nothing was overwritten, "
                    "--force makes it again, `shunt window destroy {}` removes it",
                    object.name, window->table.count, object.name));
  }
  if (const auto at = something_at(object)) {
    fail(
        fmt::format("{} is not empty: it holds something near offset {}; nothing was overwritten, "
                    "--force does that",
                    object.name, *at));
  }
}

// ---- is it in use? ----

// Holds the locks of all sections, so that no driver of this kernel starts in the middle.
class Claim {
 public:
  // Refuses where a driver lives; `doing` is what for, "made again" or "destroyed".
  Claim(const Backing& window, const char* doing) : fd_(window.device->fresh_descriptor()) {
    std::vector<const SectionFile*> sections;
    for (std::uint32_t i = 0; i < window.table.count; ++i) {
      files_.push_back(open_if_sound(window, window.table.partitions[i]));
      SectionFile* file = files_.back().get();
      sections.push_back(file);
      // A sound section's lock belongs to its own description, so that a look at it says "not
      // locked".
      if (!(file != nullptr ? file->try_lock()
                            : try_lock(fd_.get(), section_lock(window, i + 1)))) {
        refuse(window, i, file, "of this system", doing);
      }
    }
    const std::vector<Driven> driven = watch_hearts(sections, kWatchLong);
    for (std::uint32_t i = 0; i < window.table.count; ++i) {
      if (driven[i].heart == Heart::kBeats) {
        refuse(window, i, sections[i], "of another system", doing);
      }
    }
  }

 private:
  static std::unique_ptr<SectionFile> open_if_sound(const Backing& window,
                                                    const wire::Partition& partition) {
    try {
      return std::make_unique<SectionFile>(window, partition, Access::kReadWrite);
    } catch (const WindowError&) {
      return nullptr;  // a damaged section can be removed too
    }
  }
  [[noreturn]] static void refuse(const Backing& window, std::uint32_t index,
                                  const SectionFile* file, const char* whose, const char* doing) {
    const std::uint32_t pid =
        file != nullptr ? Untrusted(file->section()->header.life.pid).copy() : 0;
    fail(
        fmt::format("window {} is in use and not {}: the driver of partition '{}' runs (pid {} {});"
                    " stop it first",
                    window.spec, doing, window.table.partitions[index].name(), pid, whose));
  }

  UniqueFd fd_;
  std::vector<std::unique_ptr<SectionFile>> files_;
};

// Nothing usable is there: nullptr, whatever the reason.
std::unique_ptr<Backing> open_if_window(const std::string& spec) {
  try {
    return std::make_unique<Backing>(open_backing(spec));
  } catch (const WindowError&) {
    return nullptr;
  }
}

// ---- plans ----

layout::DeviceGeometry plan_geometry(const DeviceObject& object, const DevicePlan& plan) {
  if (!std::has_single_bit(plan.granule) || plan.granule < layout::kGranuleMin ||
      plan.granule > layout::kGranuleMax) {
    fail(fmt::format("bad granule {} for {}: give a power of two from 4k to 1g", plan.granule,
                     object.name));
  }
  if (plan.granule % object.align != 0) {
    fail(fmt::format("{} can only be mapped in units of {} bytes: give --granule {} or more",
                     object.name, object.align, object.align));
  }
  if (plan.size > object.size) {
    fail(fmt::format("size {} is more than {} has: {} bytes", plan.size, object.name, object.size));
  }
  const std::uint64_t size = (plan.size != 0 ? plan.size : object.size) / kPage * kPage;
  const std::uint32_t count = plan.table.count;
  const layout::DeviceGeometry geometry =
      layout::device_geometry(size, plan.granule, plan.table.section_bytes, count);
  if (geometry.section_stride == 0) {
    const std::uint64_t least =
        layout::device_bytes_min(plan.granule, plan.table.section_bytes, count);
    fail(fmt::format(
        "{} is too small for a window with {} partitions: it needs {} bytes ({} MiB), "
        "and {} are there{}",
        object.name, count, least, (least + kMiB - 1) / kMiB, size,
        plan.granule > object.align ? fmt::format("; --granule {} needs less", object.align) : ""));
  }
  return geometry;
}

// Takes away the SIGBUS that a full file system would answer the first touch with.
void allocate(const DeviceObject& object, std::uint64_t offset, std::uint64_t bytes) {
  if (object.kind != BackingKind::kFile) return;
  const int error = ::posix_fallocate(object.fd.get(), static_cast<off_t>(object.base + offset),
                                      static_cast<off_t>(bytes));
  if (error == ENOSPC || error == EDQUOT || error == ENOMEM) {
    fail(
        fmt::format("no space left for the window in {}: {} bytes at offset {} could not be "
                    "allocated",
                    object.name, bytes, offset));
  }
}

// ---- writing ----

void clear_magic(const Mapping& head, const std::function<void()>& after_step) {
  superblock(head).magic.store(0, std::memory_order_release);
  complete(head, after_step);
}

Mapping map_control(const DeviceObject& object, const layout::DeviceGeometry& geometry,
                    std::uint32_t number) {
  return object.map(geometry.section_offset(number), geometry.arena_offset, Access::kReadWrite);
}

void make_section(const DeviceObject& object, const layout::DeviceGeometry& geometry,
                  const wire::PartitionTable& table, std::uint32_t number,
                  const std::function<void()>& after_step) {
  const Mapping control = map_control(object, geometry, number);
  std::memset(control.data(), 0, geometry.section_bytes);
  const layout::SectionIdentity identity = section_identity(table, number);
  std::memcpy(control.data(), &identity, sizeof identity);
  complete(control, after_step);
}

}  // namespace

void create_device_window(const std::string& spec, const DevicePlan& plan, bool force,
                          const std::function<void()>& after_step) {
  const DeviceObject object = open_object(spec, Access::kReadWrite);
  const layout::DeviceGeometry geometry = plan_geometry(object, plan);
  if (!try_lock(object.fd.get(), {object.base, 1})) {
    fail(fmt::format("somebody else makes a window on {} at this moment", object.name));
  }
  const std::unique_ptr<Backing> before = open_if_window(spec);
  if (!force) require_nothing_there(object, before.get());
  const auto claim = before ? std::make_unique<Claim>(*before, "made again") : nullptr;

  allocate(object, 0, layout::kDeviceHeadBytes);
  for (std::uint32_t n = 1; n <= plan.table.count; ++n) {
    allocate(object, geometry.section_offset(n), geometry.section_bytes);
  }
  const Mapping head = object.map(0, layout::kDeviceHeadBytes, Access::kReadWrite);
  clear_magic(head, after_step);
  for (std::uint32_t n = 1; n <= plan.table.count; ++n) {
    make_section(object, geometry, plan.table, n, after_step);
  }
  std::vector<std::uint8_t> bytes(kHeadCopyBytes);
  write_head(plan.table, geometry, bytes.data());
  std::memcpy(head.data(), bytes.data(), bytes.size());  // magic is 0 in it
  complete(head, after_step);
  // Pairs with the acquire load in Backing::look_at_head: all of the window comes with it.
  superblock(head).magic.store(layout::kDeviceMagic, std::memory_order_release);
  complete(head, after_step);
}

void destroy_device_window(const std::string& spec) {
  const Backing window = open_backing(spec);
  const Claim claim(window, "destroyed");
  const DeviceObject& object = *window.device;
  const Mapping head = object.map(0, layout::kDeviceHeadBytes, Access::kReadWrite);
  clear_magic(head, {});
  for (std::uint32_t n = 1; n <= window.table.count; ++n) {
    const Mapping control = map_control(object, window.geometry, n);
    std::memset(control.data(), 0, window.geometry.section_bytes);
    complete(control, {});
  }
  std::memset(head.data(), 0, kHeadCopyBytes);
  complete(head, {});
  if (object.kind == BackingKind::kFile) {  // what its areas hold is nobody's business any more
    ::fallocate(object.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(object.base), static_cast<off_t>(window.geometry.size));
  }
  remove_runtime_directory(window);
}

}  // namespace shunt::window
