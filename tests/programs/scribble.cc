// Writes at random over parts of a file that others have mapped, until its stdin ends.
//
//   scribble FILE --seed 5 --part 0:4096 --part 8192:65536 --hot 0:64
//
// A part is OFFSET:BYTES, multiples of 8. Half of the writes go to the hot parts. Says "scribbling" after the first
// writes, and in the end one JSON line with their number.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/scribble_test_util.h"
#include "common/options.h"
#include "common/program.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string file;
  std::vector<std::string> parts;
  std::vector<std::string> hot;
  std::uint64_t seed = 1;
  unsigned rest_us = 10'000;
  unsigned limit_s = 300;
};

Scribble::Place map_all(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat st {};
  if (fd < 0 || fstat(fd, &st) != 0) die(path);
  const auto size = static_cast<std::size_t>(st.st_size);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) die("mmap");
  close(fd);
  return {static_cast<std::uint8_t*>(memory), size};
}

std::vector<Scribble::Place> places(Scribble::Place file, const std::vector<std::string>& texts) {
  std::vector<Scribble::Place> result;
  for (const std::string& text : texts) {
    std::size_t end = 0;
    const std::uint64_t offset = std::stoull(text, &end);
    if (end >= text.size() || text[end] != ':') die_plain(text + " is no OFFSET:BYTES");
    const std::uint64_t bytes = std::stoull(text.substr(end + 1));
    if (offset % 8 != 0 || bytes % 8 != 0 || bytes == 0 || offset > file.size() ||
        bytes > file.size() - offset) {
      die_plain(text + " is no part of the file");
    }
    result.push_back(file.subspan(offset, bytes));
  }
  return result;
}

int run(const Settings& s) {
  limit_time(s.limit_s);
  const Scribble::Place file = map_all(s.file);
  Scribble scribble(places(file, s.parts), places(file, s.hot), s.seed);
  for (int i = 0; i < 1000; ++i) scribble.once();
  say("scribbling");
  std::atomic<bool> stop{false};
  std::thread thread([&] { scribble.until(stop, std::chrono::microseconds(s.rest_us)); });
  hold_until_stdin_ends();
  stop.store(true);
  thread.join();
  say(nlohmann::json{{"writes", scribble.writes()}}.dump());
  return 0;
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"Random writes over parts of a file"};
  app.value("file", s.file, "to write to", true);
  app.value("--part", s.parts, "OFFSET:BYTES", true);
  app.value("--hot", s.hot, "OFFSET:BYTES");
  app.value("--seed", s.seed, "of everything random");
  app.value("--rest-us", s.rest_us, "longest rest between two bursts");
  app.value("--limit", s.limit_s, "seconds after which to give up");
  app.parse(argc, argv);
  return shunt::test::run(s);
}
