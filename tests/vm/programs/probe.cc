// Tells what shared memory is like in a guest: maps a device or a file and measures.
//
//   vm_probe PATH OFFSET LENGTH copy       MB/s of copies from, to and within the mapping
//   vm_probe PATH OFFSET LENGTH ping N     N round trips of a counter with a peer that runs `pong`
//   vm_probe PATH OFFSET LENGTH pong N
//   vm_probe PATH OFFSET LENGTH map        just maps, and says so
//   vm_probe PATH OFFSET LENGTH hold       maps and touches, then waits for the end of stdin
//   vm_probe PATH OFFSET LENGTH read N     writes N bytes of the mapping to stdout
//   vm_probe PATH OFFSET LENGTH write      copies stdin into the mapping
//   vm_probe NAME bell-ping N              N round trips of a byte over the virtio-serial port NAME
//   vm_probe NAME bell-pong                answers them until it is killed; says "ready" first
//
// Plain accesses by the processor, never read(2) or write(2): PCI resources have none. ping and pong
// spin: give each its own processor.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr int kRepeats = 5;
constexpr std::size_t kLine = 128;  // lines of different writers stay this far apart

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "vm_probe: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of some repeats: what the memory can do, not what else the machine does.
template <typename Work>
double megabytes_per_second(std::size_t bytes, const Work& work) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; i++) {
    const double start = now_seconds();
    work();
    best = std::min(best, now_seconds() - start);
  }
  return double(bytes) / best / 1e6;
}

void copy(char* memory, std::size_t length) {
  const std::size_t half = length / 2;
  std::vector<char> own(half, 'x');
  std::vector<char> other(half, 'y');
  std::memset(memory, 1, length);
  std::printf("own to own     %8.0f MB/s\n",
              megabytes_per_second(half, [&] { std::memcpy(own.data(), other.data(), half); }));
  std::printf("own to shared  %8.0f MB/s\n",
              megabytes_per_second(half, [&] { std::memcpy(memory, own.data(), half); }));
  std::printf("shared to own  %8.0f MB/s\n",
              megabytes_per_second(half, [&] { std::memcpy(own.data(), memory, half); }));
  std::printf("within shared  %8.0f MB/s\n",
              megabytes_per_second(half, [&] { std::memcpy(memory + half, memory, half); }));
}

void print_times(std::vector<double>& took) {
  std::sort(took.begin(), took.end());
  std::printf("round trip: median %.2f us, p99 %.2f us\n", took[took.size() / 2] * 1e6,
              took[took.size() * 99 / 100] * 1e6);
}

// Each side writes its own line only. The lines must hold zeros before.
void ping_pong(char* memory, bool first, std::uint64_t count) {
  auto* ping = reinterpret_cast<std::atomic<std::uint64_t>*>(memory);
  auto* pong = reinterpret_cast<std::atomic<std::uint64_t>*>(memory + kLine);
  std::atomic<std::uint64_t>* mine = first ? ping : pong;
  std::atomic<std::uint64_t>* theirs = first ? pong : ping;
  if (!first) {
    for (std::uint64_t n = 1; n <= count; n++) {
      while (theirs->load(std::memory_order_acquire) != n) {
      }
      mine->store(n, std::memory_order_release);
    }
    return;
  }
  std::vector<double> took;
  for (std::uint64_t n = 1; n <= count; n++) {
    const double start = now_seconds();
    mine->store(n, std::memory_order_release);
    while (theirs->load(std::memory_order_acquire) != n) {
    }
    took.push_back(now_seconds() - start);
  }
  print_times(took);
}

int open_port(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/virtio-ports")) {
    std::string found;
    std::getline(std::ifstream(entry.path() / "name"), found);
    if (found == name)
      return ::open(("/dev" / entry.path().filename()).c_str(), O_RDWR | O_CLOEXEC);
  }
  errno = ENODEV;
  return -1;
}

void bell(const std::string& name, bool first, std::uint64_t count) {
  const int fd = open_port(name);
  if (fd < 0) die(name.c_str());
  char byte = 0;
  if (!first) {
    std::puts("ready");
    std::fflush(stdout);
    while (::read(fd, &byte, 1) == 1 && ::write(fd, &byte, 1) == 1) {
    }
    die("the other end is gone");
  }
  std::vector<double> took;
  for (std::uint64_t i = 0; i < count; i++) {
    const double start = now_seconds();
    if (::write(fd, &byte, 1) != 1 || ::read(fd, &byte, 1) != 1) die("the other end is gone");
    took.push_back(now_seconds() - start);
  }
  print_times(took);
}

void hold(char* memory) {
  std::atomic_ref<char>(*memory).fetch_add(0);
  std::puts("mapped");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}

void write_all(const char* data, std::size_t length) {
  while (length > 0) {
    const ssize_t n = ::write(STDOUT_FILENO, data, length);
    if (n <= 0) die("write to stdout");
    data += n;
    length -= std::size_t(n);
  }
}

void read_in(char* memory, std::size_t length) {
  std::size_t filled = 0;
  while (filled < length) {
    const std::size_t n = std::fread(memory + filled, 1, length - filled, stdin);
    if (n == 0) break;
    filled += n;
  }
  std::printf("%zu bytes\n", filled);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 3 && std::strncmp(argv[2], "bell-", 5) == 0) {
    const bool first = std::strcmp(argv[2], "bell-ping") == 0;
    bell(argv[1], first, argc > 3 ? std::strtoull(argv[3], nullptr, 0) : 0);
    return 0;
  }
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: vm_probe PATH OFFSET LENGTH map|hold|copy|ping N|pong N|read N|write\n");
    return 2;
  }
  const std::size_t length = std::strtoull(argv[3], nullptr, 0);
  const std::string what = argv[4];
  const std::uint64_t count = argc > 5 ? std::strtoull(argv[5], nullptr, 0) : 0;
  const int fd = ::open(argv[1], O_RDWR | O_CLOEXEC);
  if (fd < 0) die("open");
  void* const mapped = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                              off_t(std::strtoull(argv[2], nullptr, 0)));
  if (mapped == MAP_FAILED) die("mmap");
  char* const memory = static_cast<char*>(mapped);
  if (what == "map") {
    std::puts("mapped");
  } else if (what == "hold") {
    hold(memory);
  } else if (what == "copy") {
    copy(memory, length);
  } else if (what == "ping" || what == "pong") {
    ping_pong(memory, what == "ping", count);
  } else if (what == "read") {
    write_all(memory, std::min<std::size_t>(count, length));
  } else if (what == "write") {
    read_in(memory, length);
  } else {
    errno = EINVAL;
    die(what.c_str());
  }
}
