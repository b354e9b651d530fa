#include "sockets/process/status.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "sockets/process/config.h"
#include "sockets/testing/test_connection.h"

namespace shunt::sockets {
namespace {

using layout::EntryState;
using layout::EntryVia;
using layout::StatusPage;

// The page as `shunt status` finds it: by the name of an open descriptor.
std::vector<int> status_fds() {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (!error && target == "/memfd:shunt-status (deleted)") {
      found.push_back(std::stoi(entry.path().filename()));
    }
  }
  return found;
}

const StatusPage* map_page() {
  start_status();
  const std::vector<int> fds = status_fds();
  EXPECT_EQ(1u, fds.size());
  void* page = mmap(nullptr, sizeof(StatusPage), PROT_READ, MAP_SHARED, fds.at(0), 0);
  return page == MAP_FAILED ? nullptr : static_cast<const StatusPage*>(page);
}

wire::Endpoint endpoint(std::uint16_t port) {
  wire::Endpoint e;
  e.family = AF_INET;
  e.port = port;
  e.address = {127, 0, 0, 1};
  return e;
}

StatusReport established(std::uint16_t port, EntryVia via = EntryVia::kSharedMemory) {
  return {EntryState::kEstablished, via, wire::Reason::kNone, nullptr, endpoint(port),
          endpoint(7777),           "b"};
}

struct TestSocket {
  int fd = open("/dev/null", O_RDONLY);
  Socket* socket = enter(fd, Kind::kKernelTcp, AF_INET);
  ~TestSocket() {
    retire(socket);
    drop_reference(take_out(fd));
    close(fd);
  }
};

TEST(Status, ThePageDescribesTheProcess) {
  const StatusPage* page = map_page();
  ASSERT_NE(nullptr, page);
  EXPECT_EQ(layout::kStatusMagic, page->magic);
  EXPECT_EQ(layout::kStatusVersion, page->version);
  EXPECT_EQ(static_cast<std::uint32_t>(getpid()), page->pid.load());
  const int fd = status_fds().at(0);
  EXPECT_TRUE(is_status_fd(fd));
  EXPECT_FALSE(is_status_fd(0));
  EXPECT_NE(0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
  EXPECT_EQ(-1, ftruncate(fd, 0)) << "sealed";
  struct stat st;
  ASSERT_EQ(0, fstat(fd, &st));
  EXPECT_GT(64 * 1024, st.st_blocks * 512) << "sparse";
}

TEST(Status, AnEntryLivesAndItsBytesStay) {
  const StatusPage* page = map_page();
  const std::uint64_t connections = page->shared_memory.connections;
  const std::uint64_t sent = page->shared_memory.bytes_sent;
  TestSocket s;
  StatusReport what = established(1111);
  what.state = EntryState::kConnecting;
  report(s.socket, what);
  EXPECT_EQ(connections, page->shared_memory.connections);
  what.state = EntryState::kEstablished;
  what.detail = "a detail that is much longer than the field that it has to fit into";
  report(s.socket, what);
  report(s.socket, what);
  EXPECT_EQ(connections + 1, page->shared_memory.connections) << "counted once";

  const layout::StatusEntry* entry = s.socket->status;
  ASSERT_NE(nullptr, entry);
  EXPECT_EQ(0u, entry->sequence.load() % 2);
  EXPECT_EQ(1111, entry->local.port);
  EXPECT_STREQ("b", entry->peer_partition);
  EXPECT_EQ(sizeof entry->detail - 1, std::strlen(entry->detail));
  add_sent(s.socket->status, 10);
  add_sent(s.socket->status, 5);
  EXPECT_EQ(15u, entry->bytes_sent.load());
  EXPECT_EQ(sent, page->shared_memory.bytes_sent);
  retire(s.socket);
  EXPECT_EQ(nullptr, s.socket->status);
  EXPECT_EQ(0u, entry->state.load());
  EXPECT_EQ(sent + 15, page->shared_memory.bytes_sent);
}

TEST(Status, BytesBelongToTheWayTheyTook) {
  const StatusPage* page = map_page();
  const std::uint64_t shared = page->shared_memory.bytes_received;
  const std::uint64_t kernel = page->kernel.bytes_received;
  TestSocket s;
  report(s.socket, established(1));
  add_received(s.socket->status, 100);
  report(s.socket, established(1, EntryVia::kKernel));
  add_received(s.socket->status, 7);
  retire(s.socket);
  EXPECT_EQ(shared + 100, page->shared_memory.bytes_received);
  EXPECT_EQ(kernel + 7, page->kernel.bytes_received);
}

TEST(Status, EntriesAreUsedAgain) {
  const StatusPage* page = map_page();
  TestSocket first;
  TestSocket second;
  report(first.socket, established(1));
  report(second.socket, established(2));
  const layout::StatusEntry* freed = first.socket->status;
  retire(first.socket);
  TestSocket third;
  report(third.socket, established(3));
  EXPECT_EQ(freed, third.socket->status);
  EXPECT_EQ(0u, freed->bytes_sent.load());
  EXPECT_GE(page->entries_used.load(), 2u);
}

TEST(Status, AFullTableLosesNothingButTheEntry) {
  const StatusPage* page = map_page();
  std::vector<Socket> sockets(layout::kStatusEntries + 1);
  for (Socket& s : sockets) report(&s, established(9));
  EXPECT_EQ(layout::kStatusEntries, page->entries_used.load());
  EXPECT_EQ(1u, page->entries_lost.load());
  EXPECT_EQ(nullptr, sockets.back().status);
  add_sent(sockets.back().status, 1);
  for (Socket& s : sockets) retire(&s);
}

TEST(Status, AForkedChildHasAPageOfItsOwn) {
  map_page();
  TestSocket s;
  report(s.socket, established(4321));
  add_sent(s.socket->status, 99);
  const pid_t child = fork();
  if (child == 0) {
    forget_thread_id();
    status_after_fork();
    const std::vector<int> fds = status_fds();
    if (fds.size() != 1) _exit(1);
    void* memory = mmap(nullptr, sizeof(StatusPage), PROT_READ, MAP_SHARED, fds[0], 0);
    const auto* page = static_cast<const StatusPage*>(memory);
    if (page->pid.load() != static_cast<std::uint32_t>(getpid())) _exit(2);
    if (page->shared_memory.connections.load() != 0) _exit(3);
    const layout::StatusEntry* entry = s.socket->status;
    if (entry == nullptr || entry->local.port != 4321 || entry->bytes_sent.load() != 0) _exit(4);
    retire(s.socket);
    if (page->entry[0].state.load() != 0) _exit(5);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
  EXPECT_EQ(99u, s.socket->status->bytes_sent.load());
}

TEST(Status, ADescriptorThatWasTakenIsNotOursAnyMore) {
  const pid_t child = fork();
  if (child == 0) {
    forget_thread_id();
    status_after_fork();
    start_status();
    const int fd = status_fds().at(0);
    dup2(0, fd);
    _exit(is_status_fd(fd) ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
}

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/shunt-config-XXXXXX";
    ASSERT_NE(nullptr, mkdtemp(name));
    dir_ = name;
    wire::PartitionTable table;
    table.generation = 5;
    table.section_bytes = 4096;
    table.count = 1;
    wire::Partition& p = table.partitions[0];
    p.number = 1;
    std::strcpy(p.name_bytes.data(), "b");
    p.address_count = 1;
    p.addresses[0].family = AF_INET;
    p.addresses[0].address = {10, 77, 0, 2};
    bytes_ = wire::encode_table(table);
  }
  void TearDown() override {
    std::filesystem::remove_all(dir_);
    for (const char* name : {"SHUNT_WINDOW", "SHUNT_PARTITION", "SHUNT_REQUIRE"}) unsetenv(name);
    read_config();
  }
  void write_table(std::size_t size) const {
    std::ofstream(dir_ + "/table", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(size));
  }
  void configure(const std::string& window, const char* partition) const {
    setenv("SHUNT_WINDOW", window.c_str(), 1);
    setenv("SHUNT_PARTITION", partition, 1);
    read_config();
  }

  std::string dir_;
  wire::TableBytes bytes_;
};

TEST_F(ConfigTest, NothingConfigured) {
  read_config();
  EXPECT_STREQ("", config_window());
  EXPECT_STREQ("", config_partition());
  EXPECT_FALSE(require_shared_memory());
  EXPECT_EQ(nullptr, partition_table());
  EXPECT_EQ(nullptr, own_partition());
}

TEST_F(ConfigTest, AWindow) {
  write_table(bytes_.size());
  setenv("SHUNT_REQUIRE", "1", 1);
  configure(dir_, "b");
  EXPECT_EQ(dir_, config_window());
  EXPECT_STREQ("b", config_partition());
  EXPECT_TRUE(require_shared_memory());
  ASSERT_NE(nullptr, partition_table());
  EXPECT_EQ(5u, partition_table()->generation);
  EXPECT_EQ(&partition_table()->partitions[0], own_partition());
  EXPECT_EQ(getuid(), window_owner_uid());
}

TEST_F(ConfigTest, AWindowThatCannotBeUsed) {
  configure(dir_, "b");
  EXPECT_EQ(nullptr, partition_table()) << "no table";
  write_table(100);
  configure(dir_, "b");
  EXPECT_EQ(nullptr, partition_table()) << "cut off";
  write_table(bytes_.size());
  configure(dir_, "c");
  EXPECT_EQ(nullptr, partition_table()) << "not in it";
  configure(dir_ + std::string(wire::kMaxWindowPath, '/'), "b");
  EXPECT_EQ(nullptr, partition_table()) << "too long";
  EXPECT_STREQ("", config_window());
  std::filesystem::create_directory(dir_ + "/x");
  std::filesystem::create_directory(dir_ + "/x/table");
  configure(dir_ + "/x", "b");
  EXPECT_EQ(nullptr, partition_table()) << "not a file";
}

}  // namespace
}  // namespace shunt::sockets
