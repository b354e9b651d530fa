#include "cli/status_reader.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "cli/status_page_test_util.h"

namespace shunt::cli {
namespace {

using layout::EntryState;
using layout::EntryVia;

Result<PageStatus> read(const TestPage& page) { return read_status_page(File(dup(page.fd()))); }

TEST(StatusReaderTest, ReadsWhatTheProviderWrote) {
  TestPage page;
  std::strcpy(page->partition, "a");
  std::strcpy(page->window, "/run/shunt");
  page->shared_memory.connections = 3;
  page->shared_memory.bytes_sent = std::uint64_t{1} << 40;
  page->kernel.bytes_received = 7;
  page->reasons[1] = 2;
  page->sleeps = 9;
  page.add(EntryState::kListening, EntryVia::kSharedMemory).local = ipv4(1, 6379);
  layout::StatusEntry& entry = page.add(EntryState::kEstablished, EntryVia::kKernel);
  entry.local = ipv4(1, 6379);
  entry.peer = ipv4(2, 40000);
  entry.reason = static_cast<std::uint32_t>(wire::Reason::kOrdinaryPeer);
  std::strcpy(entry.peer_partition, "b");
  std::strcpy(entry.detail, "TCP_ULP");
  entry.bytes_sent = 11;

  Result<PageStatus> status = read(page);
  ASSERT_TRUE(status.ok());
  const PageStatus& got = status.value();
  EXPECT_EQ(got.pid, static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(got.partition, "a");
  EXPECT_EQ(got.window, "/run/shunt");
  EXPECT_EQ(got.shared_memory.bytes_sent, std::uint64_t{1} << 40);
  EXPECT_EQ(got.kernel.bytes_sent, 11u) << "totals count live connections";
  EXPECT_EQ(got.kernel.bytes_received, 7u);
  EXPECT_EQ(got.reasons[1], 2u);
  EXPECT_EQ(got.sleeps, 9u);
  ASSERT_EQ(got.listeners.size(), 1u);
  EXPECT_TRUE(got.listeners[0].shared_memory);
  ASSERT_EQ(got.connections.size(), 1u);
  EXPECT_EQ(got.connections[0].peer.port, 40000);
  EXPECT_EQ(got.connections[0].peer.address[3], 2);
  EXPECT_EQ(got.connections[0].peer_partition, "b");
  EXPECT_EQ(got.connections[0].detail, "TCP_ULP");
  EXPECT_EQ(got.connections[0].bytes_sent, 11u);
}

TEST(StatusReaderTest, RefusesWhatIsNoPage) {
  TestPage magic;
  magic->magic = 1;
  EXPECT_EQ(read(magic).error(), EMEDIUMTYPE);
  TestPage version;
  version->version = layout::kStatusVersion + 1;
  EXPECT_EQ(read(version).error(), EPROTONOSUPPORT);
  for (const std::size_t size : {0, 4, 3071}) EXPECT_EQ(read(TestPage(size)).error(), EBADMSG);
  EXPECT_EQ(read_status_page(File(-1)).error(), EBADMSG);
}

TEST(StatusReaderTest, BoundsCountsAndStrings) {
  TestPage page;
  page.add(EntryState::kEstablished, EntryVia::kKernel).reason = 0xffffffff;
  page->entries_used = 0xffffffff;
  std::memset(page->partition, 'x', sizeof page->partition);
  std::memset(page->window, '\x1b', sizeof page->window);
  std::memset(page->entry[0].detail, 'd', sizeof page->entry[0].detail);
  Result<PageStatus> status = read(page);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status.value().partition, std::string(sizeof page->partition, 'x'));
  EXPECT_EQ(status.value().window, std::string(sizeof page->window, '?'));
  ASSERT_EQ(status.value().connections.size(), 1u);
  EXPECT_EQ(status.value().connections[0].detail.size(), sizeof page->entry[0].detail);
  EXPECT_EQ(status.value().connections[0].reason, 0xffffffffu);
}

TEST(StatusReaderTest, LeavesOutEntriesThatAreNotAtRest) {
  TestPage page;
  page.add(EntryState::kEstablished, EntryVia::kKernel).sequence = 3;
  page.add(static_cast<EntryState>(99), EntryVia::kKernel);
  page.add(EntryState::kFree, EntryVia::kKernel);
  page.add(EntryState::kConnecting, EntryVia::kKernel).local.family = 77;
  Result<PageStatus> status = read(page);
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status.value().connections.size(), 1u);
  EXPECT_EQ(status.value().connections[0].local.family, 0);
}

TEST(StatusReaderTest, SurvivesAPageThatIsCutWhileItIsRead) {
  TestPage page;
  page.add(EntryState::kEstablished, EntryVia::kKernel);
  ASSERT_EQ(ftruncate(page.fd(), offsetof(layout::StatusPage, entry) + 10), 0);
  Result<PageStatus> status = read(page);
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(status.value().connections.empty());
}

TEST(PrintableTest, ReplacesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("redis-server ~"), "redis-server ~");
  EXPECT_EQ(printable("a\x1b[2J\n\x7f\xc3\xa4"), "a?[2J????");
}

}  // namespace
}  // namespace shunt::cli
