#include "fuzz/harness.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace shunt::fuzz {
namespace {

Mark* first_mark = nullptr;

void write_seeds(const std::string& directory) {
  int number = 0;
  for (const Bytes& seed : seeds()) {
    const std::string path = directory + "/seed-" + std::to_string(number++);
    std::FILE* file = std::fopen(path.c_str(), "wb");
    require(file != nullptr, "a seed's file cannot be opened");
    require(std::fwrite(seed.data(), 1, seed.size(), file) == seed.size(),
            "a seed cannot be written");
    require(std::fclose(file) == 0, "a seed cannot be written");
  }
}

}  // namespace

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "NOT TRUE: %s\n", what);
  std::abort();
}

void report_marks() {
  for (const Mark* mark = first_mark; mark != nullptr; mark = mark->next_) {
    std::fprintf(stderr, "mark::%s: %" PRIu64 "\n", mark->name_, mark->count_);
  }
}

Mark::Mark(const char* name) : name_(name), next_(first_mark) {
  if (first_mark == nullptr) std::atexit(report_marks);
  first_mark = this;
}

std::uint64_t Input::number() {
  const std::uint8_t kind = byte();
  if (kind < 0x80) return kind;
  switch (kind & 7) {
    case 0:
      return take<std::uint16_t>();
    case 1:
      return take<std::uint32_t>();
    case 2:
      return take<std::uint64_t>();
    case 3:
      return std::uint64_t{1} << (byte() % 64);
    case 4:
      return ~std::uint64_t{byte()};
    case 5:
      return std::uint64_t{take<std::uint16_t>()} << 12;
    case 6:
      return (std::uint64_t{byte()} << 16) + static_cast<std::uint64_t>(byte()) - 128;
    default:
      return (std::uint64_t{1} << (byte() % 64)) - 1;
  }
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc == 3 && std::strcmp((*argv)[1], "--seeds") == 0) {
    shunt::fuzz::write_seeds((*argv)[2]);
    std::_Exit(0);
  }
  return 0;
}
