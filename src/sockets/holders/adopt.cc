// The label of a downgraded socket, and how a socket that carries one becomes ours: see adopt.h.
#include "sockets/holders/adopt.h"

#include <linux/filter.h>

#include <cstring>

#include "sockets/holders/descriptors.h"
#include "sockets/process/status.h"
#include "sockets/setup/establish.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kMagic = 0x50544853;  // "SHTP" in memory
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kEndpointWords = 5;  // family and port, address
constexpr std::size_t kWords = 2 + 2 * kEndpointWords;
constexpr std::size_t kInstructions = kWords + 1;
constexpr int kBlindNumbers = 64;  // without /proc: where inherited descriptors usually are

using Filter = sock_filter[kInstructions];

constexpr std::uint32_t pair(std::uint32_t high, std::uint32_t low) { return high << 16 | low; }

void put_endpoint(std::uint32_t* words, const wire::Endpoint& e) {
  words[0] = pair(e.family, e.port);
  static_assert(sizeof e.address == 4 * (kEndpointWords - 1));
  std::memcpy(words + 1, e.address.data(), sizeof e.address);
}

wire::Endpoint get_endpoint(const std::uint32_t* words) {
  wire::Endpoint e;
  e.family = static_cast<std::uint16_t>(words[0] >> 16);
  e.port = static_cast<std::uint16_t>(words[0]);
  std::memcpy(e.address.data(), words + 1, sizeof e.address);
  return e;
}

void make_filter(const Label& label, Filter* out) {
  std::uint32_t words[kWords] = {kMagic, pair(kVersion, label.family)};
  put_endpoint(words + 2, label.local);
  put_endpoint(words + 2 + kEndpointWords, label.remote);
  for (std::size_t i = 0; i < kWords; ++i) (*out)[i] = BPF_STMT(BPF_LD | BPF_IMM, words[i]);
  (*out)[kWords] = BPF_STMT(BPF_RET | BPF_K, ~0U);
}

// Whether an endpoint can be told to the program as an address of `family`. Each has one form only: what
// from_sockaddr() makes of it.
bool valid(const wire::Endpoint& e, std::uint16_t family) {
  sockaddr_storage address;
  const socklen_t length = wire::to_sockaddr(e, family, &address);
  if (length == 0) return false;
  const auto again = wire::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  return again.ok() && again.value() == e;
}

int int_option(int fd, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return sys::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

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
  c->downgrade.store(Downgrade::kPlain, std::memory_order_relaxed);
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

bool write_label(int bell, const Label& label) {
  Filter filter;
  make_filter(label, &filter);
  const sock_fprog program{kInstructions, filter};
  return sys::setsockopt(bell, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

bool read_label(int fd, Label* label) {
  if (int_option(fd, SO_DOMAIN) != AF_UNIX || int_option(fd, SO_TYPE) != SOCK_STREAM) return false;
  Filter filter{};
  socklen_t count = kInstructions;  // the unit of this option
  if (sys::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, filter, &count) < 0) return false;
  if (count != kInstructions) return false;
  std::uint32_t words[kWords];
  for (std::size_t i = 0; i < kWords; ++i) words[i] = filter[i].k;
  const Label found{get_endpoint(words + 2), get_endpoint(words + 2 + kEndpointWords),
                    static_cast<std::uint16_t>(words[1])};
  // What is not exactly as we write it is somebody else's filter.
  Filter expected;
  make_filter(found, &expected);
  if (std::memcmp(filter, expected, sizeof filter) != 0) return false;
  if (found.family != AF_INET && found.family != AF_INET6) return false;
  if (!valid(found.local, found.family) || !valid(found.remote, found.family)) return false;
  *label = found;
  return true;
}

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
