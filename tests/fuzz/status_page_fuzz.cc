// status_page: what a program tells `shunt status` of itself, in memory that it may write (cli/status_reader.h)
//
// Untrusted: the page, and where it ends. Asserted: it is refused with one of three errors, or what comes out is within
// the layout's bounds: strings of printable characters no longer than their fields, known states and families, no more
// sockets than entries, and totals that are those of the page and the entries together.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/status_reader.h"
#include "fuzz/harness.h"

namespace shunt::fuzz {
namespace {

using cli::PageStatus;
using cli::SocketStatus;
using layout::EntryState;
using layout::StatusEntry;
using layout::StatusPage;

Mark refused("page refused");
Mark listed("listener listed");
Mark connected("connection listed");
Mark unstable("entry left out");

constexpr std::size_t kHeadBytes = offsetof(StatusPage, entry);
// Of the head, what has a meaning.
constexpr std::size_t kUsedBytes = offsetof(StatusPage, reserved1);

void check_text(const std::string& text, std::size_t field_bytes) {
  require(text.size() <= field_bytes, "text fits into its field");
  require(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }),
          "text is printable");
}

void check_endpoint(const wire::Endpoint& e) {
  if (e.family == AF_INET6) return;
  require(e.family == AF_INET || e == wire::Endpoint{}, "an address of a known family");
  require(
      std::all_of(e.address.begin() + 4, e.address.end(), [](std::uint8_t b) { return b == 0; }),
      "an IPv4 address has four bytes");
}

void check_socket(const SocketStatus& socket, bool listener) {
  require((socket.state == EntryState::kListening) == listener, "listeners are listed apart");
  require(socket.state != EntryState::kFree && socket.state <= EntryState::kEstablished, "in use");
  check_text(socket.peer_partition, layout::kPartitionNameBytes);
  check_text(socket.detail, sizeof StatusEntry::detail);
  check_endpoint(socket.local);
  check_endpoint(socket.peer);
}

std::uint64_t sent(const layout::StatusTotals& totals) { return totals.bytes_sent.load(); }

void check_page(const PageStatus& page, const StatusPage& head) {
  check_text(page.partition, sizeof head.partition);
  check_text(page.window, sizeof head.window);
  const std::size_t sockets = page.listeners.size() + page.connections.size();
  require(sockets <= std::min(head.entries_used.load(), layout::kStatusEntries),
          "one for an entry");
  std::uint64_t bytes = sent(head.shared_memory) + sent(head.kernel);
  for (const SocketStatus& socket : page.listeners) {
    check_socket(socket, true);
    bytes += socket.bytes_sent;
    listed.reached();
  }
  for (const SocketStatus& socket : page.connections) {
    check_socket(socket, false);
    bytes += socket.bytes_sent;
    connected.reached();
  }
  require(page.shared_memory.bytes_sent + page.kernel.bytes_sent == bytes, "bytes add up");
  require(page.pid == head.pid.load() && page.kept_back == head.kept_back.load(), "as it says");
  if (head.entries_used.load() > sockets) unstable.reached();
}

// A page as its program could have made it: a head whose text and counts are the input's, and entries.
struct Page {
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  alignas(StatusPage) std::uint8_t head_bytes[kHeadBytes];
  std::size_t size = 0;

  const StatusPage& head() const { return *reinterpret_cast<const StatusPage*>(head_bytes); }
  StatusPage& head() { return *reinterpret_cast<StatusPage*>(head_bytes); }

  void fill(Input& in) {
    const auto how = in.take<std::uint8_t>();
    std::memset(head_bytes, 0, sizeof head_bytes);
    const std::uint32_t entries = in.below(8);
    if ((how & 1) != 0) {  // words one by one
      head().entries_used = entries;
      for (std::uint32_t words = in.below(32); words > 0; --words) {
        const std::uint64_t value = in.take<std::uint64_t>();
        std::memcpy(head_bytes + std::size_t{in.take<std::uint8_t>()} * 8 % kUsedBytes / 8 * 8,
                    &value, 8);
      }
      if ((how & 2) != 0) head().entries_used = entries;
    } else {
      in.overlay(head_bytes, kUsedBytes);
    }
    if ((how & 4) == 0) {
      head().magic = layout::kStatusMagic;
      head().version = layout::kStatusVersion;
    }
    size = kHeadBytes + entries * sizeof(StatusEntry);
    require(ftruncate(fd, 0) == 0 && ftruncate(fd, static_cast<off_t>(size)) == 0, "a file");
    write(head_bytes, kHeadBytes, 0);
    for (std::uint32_t i = 0; i < entries; ++i) fill_entry(in, i);
    if ((how & 8) != 0) {  // cut short
      size = in.take<std::uint16_t>() % (size + 1);
      require(ftruncate(fd, static_cast<off_t>(size)) == 0, "a file");
    }
  }
  void fill_entry(Input& in, std::uint32_t index) {
    alignas(StatusEntry) std::uint8_t bytes[sizeof(StatusEntry)] = {};
    auto& entry = *reinterpret_cast<StatusEntry*>(bytes);
    const std::uint32_t kind = in.below(16);
    if (kind % 2 == 1) {
      in.overlay(bytes, sizeof bytes);
    } else {
      entry.sequence = in.take<std::uint8_t>();
      entry.state = in.below(5);
      entry.via = in.below(3);
      entry.reason = in.take<std::uint8_t>();
      entry.local.family = in.take<std::uint8_t>();
      entry.peer.family = in.take<std::uint8_t>();
      in.overlay(reinterpret_cast<std::uint8_t*>(entry.detail), in.below(sizeof entry.detail + 1));
      entry.bytes_sent = in.number();
    }
    // One that is being written is read a hundred times: seldom.
    if (kind < 14) entry.sequence = entry.sequence & ~1u;
    write(bytes, sizeof bytes, kHeadBytes + index * sizeof(StatusEntry));
  }
  void write(const std::uint8_t* bytes, std::size_t count, std::size_t at) const {
    require(pwrite(fd, bytes, count, static_cast<off_t>(at)) == static_cast<ssize_t>(count),
            "a page");
  }
};

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  all.push_back({3,  3, 1, 7, 0, 0,  0,  0, 0,    0,    0,    1,     // a word of the head
                 0,  0, 1, 0, 0, 2,  2,  3, 'a',  'b',  'c',  9,     // a listener
                 0,  0, 3, 1, 5, 10, 10, 2, 0xff, '\n', 0x81, 1, 2,  // a connection
                 14, 1, 2, 1, 5, 10, 10, 0, 3});  // an entry that is being written
  Bytes head{0, 2};  // the count of entries is all that fits into its word
  head.resize(2 + kUsedBytes, 0xff);
  all.push_back(head);
  all.push_back({7, 0});
  all.push_back({11, 2, 0, 0, 0, 1, 0, 0, 2, 2, 0, 9, 0, 0, 3, 0, 0, 2, 2, 0, 9, 0x00, 0x0c});
  return all;
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  static Page& page = *new Page;
  Input in(data, size);
  page.fill(in);
  const auto result = shunt::cli::read_status_page(shunt::cli::File(dup(page.fd)));
  if (result.ok()) {
    require(page.size >= kHeadBytes, "a page that is too short is refused");
    check_page(result.value(), page.head());
    return 0;
  }
  const int error = result.error();
  require(error == EBADMSG || error == EMEDIUMTYPE || error == EPROTONOSUPPORT, "a known error");
  refused.reached();
  return 0;
}
