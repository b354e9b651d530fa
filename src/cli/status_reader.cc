#include "cli/status_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace shunt::cli {
namespace {

using layout::EntryState;
using layout::StatusEntry;
using layout::StatusPage;

// How often an entry that its owner keeps changing is read before it is left out.
constexpr int kEntryReads = 100;

// A private copy of `T`: the atomics in it are only bytes here, nobody else sees them.
template <typename T>
class Copy {
 public:
  bool read(const File& file, std::uint64_t offset, std::size_t size = sizeof(T)) {
    return file.read_at(offset, bytes_.data(), size);
  }
  const T& operator*() const { return *reinterpret_cast<const T*>(bytes_.data()); }
  const T* operator->() const { return &**this; }

 private:
  alignas(T) std::array<unsigned char, sizeof(T)> bytes_{};
};

template <typename T>
T value(const std::atomic<T>& word) {
  return word.load(std::memory_order_relaxed);  // private memory: there is nothing to order
}

template <std::size_t N>
std::string text(const char (&field)[N]) {
  return printable(std::string(field, strnlen(field, N)));
}

wire::Endpoint endpoint(const layout::StatusAddress& address) {
  wire::Endpoint out;
  if (address.family != AF_INET && address.family != AF_INET6) return out;
  out.family = address.family;
  out.port = address.port;
  const std::size_t bytes = address.family == AF_INET ? 4 : 16;
  std::copy_n(address.bytes, bytes, out.address.begin());
  return out;
}

Traffic traffic(const layout::StatusTotals& totals) {
  return {value(totals.connections), value(totals.bytes_sent), value(totals.bytes_received)};
}

// False: free, in an unknown state, cut off, or never at rest.
bool read_entry(const File& file, std::uint32_t index, SocketStatus* out) {
  const std::uint64_t offset = offsetof(StatusPage, entry) + index * sizeof(StatusEntry);
  Copy<StatusEntry> entry;
  bool stable = false;
  for (int i = 0; i < kEntryReads && !stable; ++i) {
    std::uint32_t before = 0;
    std::uint32_t after = 0;
    if (!file.read_at(offset, &before, sizeof before) || !entry.read(file, offset) ||
        !file.read_at(offset, &after, sizeof after)) {
      return false;
    }
    stable = before == after && (before & 1) == 0;
  }
  const std::uint32_t state = value(entry->state);
  if (!stable || state == static_cast<std::uint32_t>(EntryState::kFree) ||
      state > static_cast<std::uint32_t>(EntryState::kEstablished)) {
    return false;
  }
  out->state = static_cast<EntryState>(state);
  out->shared_memory =
      value(entry->via) == static_cast<std::uint32_t>(layout::EntryVia::kSharedMemory);
  out->reason = value(entry->reason);
  out->local = endpoint(entry->local);
  out->peer = endpoint(entry->peer);
  out->peer_partition = text(entry->peer_partition);
  out->detail = text(entry->detail);
  out->bytes_sent = value(entry->bytes_sent);
  out->bytes_received = value(entry->bytes_received);
  return true;
}

}  // namespace

std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

Result<PageStatus> read_status_page(const File& file) {
  const auto page = std::make_unique<Copy<StatusPage>>();
  const StatusPage& head = **page;
  if (!page->read(file, 0, offsetof(StatusPage, entry))) return Error{EBADMSG};
  if (head.magic != layout::kStatusMagic) return Error{EMEDIUMTYPE};
  if (head.version != layout::kStatusVersion) return Error{EPROTONOSUPPORT};

  PageStatus out;
  out.pid = value(head.pid);
  out.partition = text(head.partition);
  out.window = text(head.window);
  out.shared_memory = traffic(head.shared_memory);
  out.kernel = traffic(head.kernel);
  for (std::uint32_t i = 0; i < wire::kReasonCount; ++i) out.reasons[i] = value(head.reasons[i]);
  out.resets_untrusted = value(head.resets_untrusted);
  out.rings_sent = value(head.rings_sent);
  out.sleeps = value(head.sleeps);
  out.entries_lost = value(head.entries_lost);
  out.kept_back = value(head.kept_back);
  const std::uint32_t used = std::min(value(head.entries_used), layout::kStatusEntries);
  for (std::uint32_t i = 0; i < used; ++i) {
    SocketStatus socket;
    if (!read_entry(file, i, &socket)) continue;
    // The page's totals hold closed connections only: the live ones' bytes are here.
    Traffic& total = socket.shared_memory ? out.shared_memory : out.kernel;
    total.bytes_sent += socket.bytes_sent;
    total.bytes_received += socket.bytes_received;
    auto& list = socket.state == EntryState::kListening ? out.listeners : out.connections;
    list.push_back(std::move(socket));
  }
  return out;
}

}  // namespace shunt::cli
