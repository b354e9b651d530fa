#include "sockets/connection.h"

#include <linux/magic.h>

#include <cstring>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kChunkPages = 64;

// A free page's link lies behind the Connection: late lockers may still be inside its locks.
struct FreePage {
  alignas(alignof(Connection)) unsigned char connection[kPageBytes - sizeof(void*)];
  FreePage* next;
};
static_assert(sizeof(Connection) <= sizeof(FreePage::connection));

Lock pool_lock;
FreePage* free_pages = nullptr;
std::uint32_t fork_generation = 0;

bool add_chunk() {
  void* memory = sys::mmap(nullptr, kPageBytes * kChunkPages, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == nullptr) return false;
  // From the end, so that pages are taken in address order.
  for (std::size_t i = kChunkPages; i-- > 0;) {
    FreePage* page = static_cast<FreePage*>(memory) + i;
    page->next = free_pages;
    free_pages = page;
  }
  return true;
}

void open_read_only(int* fd) {
  // A descriptor opened for reading keeps a peer of another user from mapping for writing.
  char path[32] = "/proc/self/fd/";
  char digits[12];
  int count = 0;
  unsigned n = static_cast<unsigned>(*fd);
  do {
    digits[count++] = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  int at = 14;
  while (count > 0) path[at++] = digits[--count];
  path[at] = '\0';
  const int read_only = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (read_only < 0) return;  // no /proc: the seals still hold
  sys::close(*fd);
  *fd = read_only;
}

// Everything but the locks, which a late locker may hold at this moment.
void reset(Connection* c) {
  c->tx.forget_recovery();
  c->rx.forget_recovery();
  c->writer = {};
  c->bytes_sent.store(0, std::memory_order_relaxed);
  c->remembered_as_grown = false;
  c->head_at_trim = 0;
  c->reader = {};
  c->bytes_received.store(0, std::memory_order_relaxed);
  c->bell_state.sleepers.store(0, std::memory_order_relaxed);
  c->bell_state.left.store(0, std::memory_order_relaxed);
  c->bell_state.maybe_rung.store(false, std::memory_order_relaxed);
  c->read_armed_epolls.store(0, std::memory_order_relaxed);
  c->write_armed_epolls.store(0, std::memory_order_relaxed);
  c->space_lacks.store(0, std::memory_order_relaxed);
  c->own = nullptr;
  c->peer.store(nullptr, std::memory_order_relaxed);
  c->reserved = nullptr;
  c->state = {};
  c->trouble.store(false, std::memory_order_relaxed);
  c->gone_noticed.store(false, std::memory_order_relaxed);
  c->poisoned.store(false, std::memory_order_relaxed);
  c->nonblocking.store(false, std::memory_order_relaxed);
  c->read_timeout_ns = 0;
  c->write_timeout_ns = 0;
  c->downgrade.store(Downgrade::kNone, std::memory_order_relaxed);
  c->follow_due.store(false, std::memory_order_relaxed);
  c->connecting_side = false;
  c->bell_shut = false;
  c->connected_left = false;
  c->rest_sent = 0;
  c->stash_begin = 0;
  c->stash_end = 0;
  c->local = {};
  c->remote = {};
  std::memset(c->options, 0, sizeof c->options);
}

}  // namespace

Connection* allocate_connection() {
  SignalsBlocked blocked;
  Hold hold(pool_lock);
  if (free_pages == nullptr && !add_chunk()) return nullptr;
  FreePage* page = free_pages;
  free_pages = page->next;
  auto* c = reinterpret_cast<Connection*>(page);
  Hold tx(c->tx);
  Hold rx(c->rx);
  reset(c);
  c->holders.store(1, std::memory_order_relaxed);
  c->fork_generation = fork_generation;
  c->linger_seconds = -1;
  c->read_low_water = 1;
  return c;
}

void free_connection(Connection* connection) {
  void* page = connection;
  if (connection->fork_generation != fork_generation) {
    // A forked process may still use the page: leave it to them, unlocked, and put a fresh one in its
    // place.
    connection->rx.release();
    connection->tx.release();
    sys::mmap(page, kPageBytes, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  } else {
    connection->own = nullptr;
    connection->peer.store(nullptr, std::memory_order_relaxed);
    connection->rx.release();
    connection->tx.release();
  }
  SignalsBlocked blocked;
  Hold hold(pool_lock);
  auto* free_page = static_cast<FreePage*>(page);
  free_page->next = free_pages;
  free_pages = free_page;
}

void connections_before_fork() { ++fork_generation; }

void connections_after_fork() {
  pool_lock.reset_after_fork();
  free_pages = nullptr;
}

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
  *fd = memory;
  open_read_only(fd);
  return area;
}

const layout::Area* map_area(int fd, std::uint64_t offset, std::uint64_t length,
                             std::uint32_t generation, const layout::Area* at) {
  if (offset != 0 || length != layout::kAreaBytes) return nullptr;
  // Only a sealed memory object of the ordinary page size cannot be pulled away under our mapping.
  constexpr int kNeeded = F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = sys::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kNeeded) != kNeeded) return nullptr;
  struct stat st;
  struct statfs fs;
  if (sys::fstat(fd, &st) != 0 || static_cast<std::uint64_t>(st.st_size) != length) return nullptr;
  if (sys::fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC) return nullptr;
  void* mapped = sys::mmap(const_cast<layout::Area*>(at), length, PROT_READ,
                           MAP_SHARED | MAP_NORESERVE | (at != nullptr ? MAP_FIXED : 0), fd, 0);
  if (mapped == nullptr) return nullptr;
  const auto* area = static_cast<const layout::Area*>(mapped);
  const layout::AreaHeader header = area->header;  // private copy, then checked
  if (!ring::valid_header(header, generation)) {
    sys::munmap(mapped, length);
    return nullptr;
  }
  return area;
}

const layout::Area* reserve_area() {
  return static_cast<const layout::Area*>(sys::mmap(
      nullptr, layout::kAreaBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

void unmap_areas(Connection* c) {
  const layout::Area* peer = c->peer.load(std::memory_order_relaxed);
  unmap_area(c->own);
  unmap_area(peer);
  if (c->reserved != peer) unmap_area(c->reserved);
}

void unmap_area(const layout::Area* area) {
  if (area != nullptr) sys::munmap(const_cast<layout::Area*>(area), layout::kAreaBytes);
}

}  // namespace shunt::sockets
