#include "sockets/process/config.h"

#include <sys/auxv.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kPathCapacity =
    wire::kMaxWindowPath + 1 + wire::kTableFile.size() + 1;  // DIR + '/' + "table" + NUL

char window[wire::kMaxWindowPath + 1];
char partition[wire::kMaxPartitionName + 1];
bool require = false;
// Zero-initialised: costs address space only until a window is used.
constinit wire::PartitionTable table{};
const wire::Partition* own = nullptr;
std::uint32_t owner_uid = 0;

// The value of `name` (with its '=') in the environment; null: not set. getenv() would do, but a
// program may have replaced that one.
const char* variable(const char* name) {
  const std::size_t size = std::strlen(name);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, name, size) == 0) return *entry + size;
  }
  return nullptr;
}

// Too long a value is as good as none: half a path would be another window.
template <std::size_t N>
void copy_value(const char* value, char (&out)[N]) {
  out[0] = '\0';
  if (value == nullptr) return;
  const std::size_t size = strnlen(value, N);
  if (size < N) std::memcpy(out, value, size + 1);
}

long read_whole(int fd, std::uint8_t* out, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const long n = sys::read(fd, out + done, size - done);
    if (n == -EINTR) continue;
    if (n < 0) return n;
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return static_cast<long>(done);
}

// Into private memory first: the file could change between check and use.
bool decode_table(int fd) {
  void* bytes = sys::mmap(nullptr, wire::kTableBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == nullptr) return false;
  auto* at = static_cast<std::uint8_t*>(bytes);
  const long n = read_whole(fd, at, wire::kTableBytes);
  const bool ok = n >= 0 && wire::decode_table_into(at, static_cast<std::size_t>(n), &table).ok();
  sys::munmap(bytes, wire::kTableBytes);
  return ok;
}

void read_table() {
  char path[kPathCapacity];
  const std::size_t size = std::strlen(window);
  std::memcpy(path, window, size);
  path[size] = '/';
  std::memcpy(path + size + 1, wire::kTableFile.data(), wire::kTableFile.size());
  path[size + 1 + wire::kTableFile.size()] = '\0';
  const int fd = sys::open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return;
  struct stat st;
  if (sys::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && decode_table(fd)) {
    own = table.by_name(partition);
    owner_uid = st.st_uid;
  }
  sys::close(fd);
}

}  // namespace

void read_config() {
  own = nullptr;
  owner_uid = 0;
  require = false;
  window[0] = partition[0] = '\0';
  // With other rights than its caller's a program must not believe the caller's environment.
  if (getauxval(AT_SECURE) != 0) return;
  copy_value(variable("SHUNT_WINDOW="), window);
  copy_value(variable("SHUNT_PARTITION="), partition);
  const char* value = variable("SHUNT_REQUIRE=");
  require = value != nullptr && value[0] != '\0' && std::strcmp(value, "0") != 0;
  if (window[0] != '\0' && partition[0] != '\0') read_table();
}

const char* config_window() { return window; }
const char* config_partition() { return partition; }
bool require_shared_memory() { return require; }
const wire::PartitionTable* partition_table() { return own != nullptr ? &table : nullptr; }
const wire::Partition* own_partition() { return own; }
bool areas_from_driver() {
  return own != nullptr && (table.flags & wire::kTableAreasFromDriver) != 0;
}
std::uint32_t area_map_bytes() {
  return areas_from_driver() ? static_cast<std::uint32_t>(table.area_map_bytes) : 0;
}
std::uint32_t window_owner_uid() { return own != nullptr ? owner_uid : 0; }

const char* partition_name_of(const wire::Endpoint& endpoint) {
  const wire::PartitionTable* partitions = partition_table();
  if (partitions == nullptr) return nullptr;
  const wire::Partition* p = partitions->by_address(endpoint);
  return p != nullptr && p != own_partition() ? p->name_bytes.data() : nullptr;
}

}  // namespace shunt::sockets
