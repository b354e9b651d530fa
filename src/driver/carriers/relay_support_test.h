// Two drivers of a window on a device as processes, and connections between a program and a listener of theirs.
#pragma once

#include <signal.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "driver/support_test.h"
#include "window/section_file.h"

namespace shunt::driver {

inline bool rung(const BellNews& news) { return news.rings > 0; }
inline bool ended(const BellNews& news) { return news.ended; }
inline bool told(const BellNews& news) { return news.message.has_value(); }

inline constexpr std::uint32_t kAreas =
    120;  // of each partition; a quarter is partition c's guaranteed share

// Paused where a driver nearly always is: a pause in the middle of a word's way to memory no driver can notice.
inline void pause_asleep(const DriverProcess& driver, const layout::Section* section) {
  EXPECT_TRUE(eventually([&] {
    std::ifstream file("/proc/" + std::to_string(driver.pid()) + "/stat");
    std::string pid;
    std::string name;
    char state = 0;
    file >> pid >> name >> state;
    return state == 'S' && (section->header.sleep.sleeping.load() & 1) != 0;
  }));
  driver.signal(SIGSTOP);
}

// A connection, both ends of it.
struct Pair {
  explicit Pair(const std::string& dir) : program(dir) {}
  FakeProgram program;
  FakeListener::Arrived arrived;
  FakeArea a;       // of the program
  FakeArea a_at_b;  // as the listener maps it
  FakeArea b;       // of the listener
  FakeArea b_at_a;
  std::uint32_t fate_a() const { return a->fate_line.fate.load(); }
  std::uint32_t fate_b() const { return b->fate_line.fate.load(); }
  void close_a() {
    program.bell.reset();
    a = FakeArea();
    b_at_a = FakeArea();
  }
  void close_b() {
    arrived.fds.at(1).reset();
    b = FakeArea();
    a_at_b = FakeArea();
  }
};

class Relay : public WindowFixture {
 protected:
  void SetUp() override { begin(window::kSectionBytesDefault); }
  void begin(std::uint64_t section_bytes) {
    make_window(Kind::kDevice, kAreas, section_bytes);
    backing = window::open_backing(spec);
    for (int i = 0; i < 3; ++i) {
      sections[i] = std::make_unique<window::SectionFile>(backing, backing.table.partitions[i],
                                                          window::Access::kReadOnly);
    }
    a = start("a");
    b = start("b");
    listener = std::make_unique<FakeListener>();
  }
  std::unique_ptr<DriverProcess> start(const std::string& partition,
                                       const std::string& dead_after = "15000") {
    return std::make_unique<DriverProcess>(spec, partition, layout::NotifyMode::kInterrupt,
                                           std::vector<std::string>{"--dead-after", dead_after});
  }
  void restart(const std::string& dead_after) {
    a.reset();
    b.reset();
    a = start("a", dead_after);
    b = start("b", dead_after);
  }
  const layout::ArenaCounters& areas(int of) { return sections[of]->section()->header.arena; }
  const layout::SectionCounters& counters(int of) {
    return sections[of]->section()->header.counters;
  }
  bool all_free() {
    return eventually([&] { return areas(0).areas_used == 0 && areas(1).areas_used == 0; });
  }
  // Asked for, and arrived at the listener.
  std::unique_ptr<Pair> ask() {
    auto pair = std::make_unique<Pair>(dir);
    EXPECT_EQ(kQueued, pair->program.ask(listener->address));
    pair->arrived = listener->accept();
    pair->a = std::move(pair->program.own);
    pair->b = pair->arrived.own();
    pair->a_at_b = pair->arrived.peer();
    pair->arrived.fds.at(0).reset();  // as a provider does: the mappings keep the lease
    return pair;
  }
  void accept(Pair& pair) {
    accept_on_bell(pair.arrived);
    pair.arrived.rendezvous.reset();
    BellNews news = read_bell(pair.program.bell.get(), told);
    pair.b_at_a = std::move(news.area);
    EXPECT_EQ(1, read_bell(pair.arrived.bell(), rung).rings);
  }
  std::unique_ptr<Pair> connect() {
    auto pair = ask();
    accept(*pair);
    return pair;
  }
  void expect_honest_service() {
    auto pair = connect();
    ring_bell(pair->program.bell.get());
    EXPECT_EQ(1, read_bell(pair->arrived.bell(), rung).rings);
  }

  window::Backing backing;
  std::unique_ptr<window::SectionFile> sections[3];
  std::unique_ptr<DriverProcess> a;
  std::unique_ptr<DriverProcess> b;
  std::unique_ptr<FakeListener> listener;
};

}  // namespace shunt::driver
