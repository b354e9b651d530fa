#include "sockets/holders/adopt.h"

#include "sockets/connection/carriage.h"
#include "sockets/downgrade/label.h"
#include "sockets/holders/descriptors.h"
#include "sockets/process/identity.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr int kBlindNumbers = 64;  // without /proc: where inherited descriptors usually are

// A further descriptor of a plain socket that is ours already shares its Socket.
bool join(int fd, std::uint64_t inode) {
  for (int other = 0; other < table_limit(); ++other) {
    Socket* s = lookup_pinned(other);
    if (s == nullptr) continue;
    const bool same = s->kind.load(std::memory_order_acquire) == Kind::kPlain &&
                      s->inode == inode && inode != 0 && names_bell(other, s);
    if (same && lookup(fd) != s) enter_again(fd, s);
    unpin(s);
    if (same) return true;
  }
  return false;
}

void adopt(int fd, const Label& label) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || join(fd, st.st_ino)) return;
  Connection* c = allocate_connection();
  if (c == nullptr) return;
  c->local = label.local;
  c->remote = label.remote;
  apply(c, conn::CarriageEvent::kArrived);
  Socket* s = enter(fd, Kind::kTcp, label.family);
  if (s == nullptr) {
    c->tx.acquire();
    c->rx.acquire();
    free_connection(c);
    return;
  }
  s->connection = c;
  s->inode = st.st_ino;
  s->kind.store(Kind::kPlain, std::memory_order_release);
  show_downgraded(s);
}

// -1: "." and "..".
int number_of(const char* name) {
  int number = 0;
  for (; *name != '\0'; ++name) {
    if (*name < '0' || *name > '9') return -1;
    number = number * 10 + (*name - '0');
  }
  return number;
}

// The kernel's struct linux_dirent64.
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t bytes;
  std::uint8_t type;
  char name[1];
};

}  // namespace

void adopt_plain(int fd) {
  Label label;
  if (in_vfork_child() || !read_label(fd, &label)) return;
  const SignalsBlocked blocked;
  adopt(fd, label);
}

void adopt_inherited() {
  const int directory = sys::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    for (int fd = 0; fd < kBlindNumbers; ++fd) adopt_plain(fd);
    return;
  }
  alignas(DirectoryEntry) char entries[2048];
  for (;;) {
    const long size = sys::getdents64(directory, entries, sizeof entries);
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
      const int fd = number_of(entry->name);
      if (fd >= 0 && fd != directory) adopt_plain(fd);
      at += entry->bytes;
    }
  }
  sys::close(directory);
}

}  // namespace shunt::sockets
