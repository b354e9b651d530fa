#include "window/backing.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "window/error.h"
#include "window/runtime_directory.h"
#include "window/superblock.h"
#include "window/table_file.h"

namespace shunt::window {
namespace {

const layout::DeviceSuperblock& superblock(const Mapping& head) {
  return *reinterpret_cast<const layout::DeviceSuperblock*>(head.data());
}

Backing open_directory(const std::string& dir) {
  const TableFile file = load_table(dir);
  Backing backing;
  backing.spec = dir;
  backing.table = file.table;
  backing.owner = file.owner;
  backing.group = file.group;
  backing.directory = dir;
  return backing;
}

Backing open_device(const std::string& spec, Access access) {
  Backing backing;
  backing.device = open_object(spec, access);
  const auto head = read_head(*backing.device);
  backing.spec = backing.device->name;
  backing.table = head->table;
  backing.geometry = head->geometry;
  backing.owner = ::geteuid();
  backing.group = ::getegid();
  backing.directory = runtime_directory(backing.spec);
  backing.head = backing.device->map(0, layout::kDeviceHeadBytes, Access::kReadOnly);
  return backing;
}

}  // namespace

Backing open_backing(const std::string& spec, Access access) {
  if (names_device(spec)) return open_device(spec, access);
  const auto named = device_of_runtime_directory(spec);
  if (!named) return open_directory(spec);
  Backing backing = open_device(named->spec, access);
  backing.directory = spec;
  backing.owner = named->owner;
  backing.group = named->group;
  return backing;
}

HeadState Backing::look_at_head() const {
  if (!device) return HeadState::kSame;
  const layout::DeviceSuperblock& s = superblock(head);
  // Acquire, in this order: a generation read behind a good magic is one that was complete.
  if (s.magic.load(std::memory_order_acquire) == layout::kDeviceMagic &&
      s.generation.load(std::memory_order_relaxed) == table.generation) {
    return HeadState::kSame;
  }
  std::vector<std::uint8_t> copy(kHeadCopyBytes);
  std::memcpy(copy.data(), head.data(), copy.size());
  if (std::all_of(copy.begin(), copy.end(), [](std::uint8_t b) { return b == 0; })) {
    return HeadState::kGone;
  }
  try {
    const bool other = check_head(copy.data(), *device)->table.generation != table.generation;
    return other ? HeadState::kGone : HeadState::kSame;
  } catch (const WindowError&) {
    return HeadState::kDamaged;
  }
}

}  // namespace shunt::window
