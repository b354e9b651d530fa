#include "sockets/connection/areas.h"

#include "ring/writer.h"
#include "sockets/arenas/memory_object.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;

// The header of what was mapped at `mapped`, or an end of it. The private copy is what is checked.
const layout::Area* checked(void* mapped, std::uint64_t bytes, std::uint32_t generation) {
  if (mapped == nullptr) return nullptr;
  const auto* area = static_cast<const layout::Area*>(mapped);
  const layout::AreaHeader header = area->header;
  if (ring::valid_header(header, generation)) return area;
  sys::munmap(mapped, bytes);
  return nullptr;
}

void* map_shared(int fd, const wire::Location& where, int protection, const void* at) {
  return sys::mmap(const_cast<void*>(at), where.length, protection,
                   MAP_SHARED | MAP_NORESERVE | (at != nullptr ? MAP_FIXED : 0), fd,
                   static_cast<off_t>(where.offset));
}

}  // namespace

layout::Area* make_area(std::uint32_t* generation, int* fd) {
  const int memory = sys::memfd_create("shunt-area", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return nullptr;
  void* mapped = nullptr;
  if (sys::ftruncate(memory, layout::kAreaBytes) == 0 &&
      sys::fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    mapped = sys::mmap(nullptr, layout::kAreaBytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_NORESERVE, memory, 0);
  }
  if (mapped == nullptr || sys::getrandom(generation, sizeof *generation) != sizeof *generation) {
    sys::close(memory);
    return nullptr;
  }
  auto* area = static_cast<layout::Area*>(mapped);
  ring::init_area(area, *generation);
  *fd = open_read_only(memory);
  return area;
}

const layout::Area* map_area(int fd, std::uint64_t offset, std::uint64_t length,
                             std::uint32_t generation, const void* at) {
  if (offset != 0 || length != layout::kAreaBytes) return nullptr;
  if (!is_sealed_object(fd, length)) return nullptr;
  const wire::Location whole{wire::kObjectDescriptor, 0, length};
  return checked(map_shared(fd, whole, PROT_READ, at), length, generation);
}

bool sound_range(int fd, const wire::Location& where, std::uint64_t map_bytes) {
  if (where.object != wire::kObjectWindow || where.length != map_bytes) return false;
  if (map_bytes < layout::kAreaBytes || map_bytes % kPage != 0 || where.offset % kPage != 0)
    return false;
  constexpr auto kLast = static_cast<std::uint64_t>(INT64_MAX);
  if (where.offset > kLast || where.length > kLast - where.offset) return false;
  struct stat st;
  if (sys::fstat(fd, &st) != 0) return false;
  if (S_ISREG(st.st_mode))
    return where.offset + where.length <= static_cast<std::uint64_t>(st.st_size);
  return S_ISCHR(st.st_mode);
}

layout::Area* map_own_range(int fd, const wire::Location& where, std::uint32_t generation,
                            std::uint64_t map_bytes) {
  if (generation == 0 || !sound_range(fd, where, map_bytes)) return nullptr;
  void* mapped = map_shared(fd, where, PROT_READ | PROT_WRITE, nullptr);
  return const_cast<layout::Area*>(checked(mapped, where.length, generation));
}

const layout::Area* map_peer(int fd, const wire::Location& where, std::uint32_t generation,
                             std::uint64_t map_bytes, const void* at) {
  if (where.object == wire::kObjectDescriptor) {
    return map_area(fd, where.offset, where.length, generation, at);
  }
  if (generation == 0 || !sound_range(fd, where, map_bytes)) return nullptr;
  return checked(map_shared(fd, where, PROT_READ, at), where.length, generation);
}

const void* reserve_memory(std::uint64_t bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const std::uint64_t slack = bytes % kHugePage == 0 ? kHugePage : 0;
  auto* at =
      static_cast<std::uint8_t*>(sys::mmap(nullptr, bytes + slack, PROT_READ, kFlags, -1, 0));
  if (at == nullptr || slack == 0) return at;
  const std::uint64_t before =
      (kHugePage - reinterpret_cast<std::uintptr_t>(at) % kHugePage) % kHugePage;
  if (before != 0) sys::munmap(at, before);
  sys::munmap(at + before + bytes, slack - before);
  return at + before;
}

void unmap_area(const layout::Area* area, std::uint64_t bytes) {
  if (area != nullptr) sys::munmap(const_cast<layout::Area*>(area), bytes);
}

}  // namespace shunt::sockets
