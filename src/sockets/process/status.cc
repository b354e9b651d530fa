#include "sockets/process/status.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>

#include "ring/fence.h"
#include "sockets/process/config.h"
#include "sockets/process/socket.h"
#include "sockets/process/table.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

using layout::EntryState;
using layout::EntryVia;
using layout::StatusEntry;
using layout::StatusPage;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::size_t kWords = layout::kStatusEntries / 64;
constexpr int kEntryReads = 100;

// Reports come from anywhere, signal handlers too, so nothing is locked for them: a free entry is had by setting its bit,
// and changed by whoever has made its sequence odd.
Lock making;  // guards the making of the page
std::atomic<StatusPage*> page{nullptr};
std::atomic<int> page_fd{-1};
std::uint64_t page_inode = 0;
std::atomic<bool> page_failed{false};  // do not try again for every connection
std::atomic<std::uint64_t> used[kWords];
std::atomic<std::size_t> first_free_word{0};  // few free entries below

template <std::size_t N>
void copy_text(char (&out)[N], const char* text) {
  const std::size_t size = text != nullptr ? strnlen(text, N - 1) : 0;
  if (size > 0) std::memcpy(out, text, size);
  std::memset(out + size, 0, N - size);
}

void copy_address(layout::StatusAddress* out, const wire::Endpoint& from) {
  out->family = from.family;
  out->port = from.port;
  std::memcpy(out->bytes, from.address.data(), sizeof out->bytes);
}

void make_page() {
  assert(making.held_by_me());
  page_failed = true;
  int fd = sys::memfd_create(layout::kStatusPageName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return;
  void* memory = nullptr;
  struct stat st;
  // Sealed: nobody who opens it through /proc can pull it away under our mapping.
  if (sys::ftruncate(fd, sizeof(StatusPage)) == 0 &&
      sys::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 &&
      sys::fstat(fd, &st) == 0) {
    memory = sys::mmap(nullptr, sizeof(StatusPage), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  if (memory == nullptr) {
    sys::close(fd);
    return;
  }
  fd = sys::move_high(fd);
  auto* fresh = static_cast<StatusPage*>(memory);
  fresh->version = layout::kStatusVersion;
  fresh->pid.store(static_cast<std::uint32_t>(sys::getpid()), kRelaxed);
  copy_text(fresh->partition, config_partition());
  copy_text(fresh->window, config_window());
  // Last, so that a reader sees a page only when it is one.
  std::atomic_ref<std::uint32_t>(fresh->magic)
      .store(layout::kStatusMagic, std::memory_order_release);
  page_fd.store(fd, kRelaxed);
  page_inode = st.st_ino;
  for (auto& word : used) word.store(0, kRelaxed);
  first_free_word = 0;
  page_failed = false;
  page.store(fresh, std::memory_order_release);
}

// Null: none can be made.
StatusPage* the_page() {
  StatusPage* p = page.load(std::memory_order_acquire);
  if (p != nullptr || page_failed.load(kRelaxed)) return p;
  const SignalsBlocked blocked;
  const Hold hold(making);
  if (page.load(kRelaxed) == nullptr && !page_failed) make_page();
  return page.load(kRelaxed);
}

StatusEntry* allocate(StatusPage* p) {
  for (std::size_t word = first_free_word.load(kRelaxed); word < kWords; ++word) {
    std::uint64_t seen = used[word].load(kRelaxed);
    while (~seen != 0) {
      const auto bit = static_cast<std::size_t>(__builtin_ctzll(~seen));
      // Acquire: what the entry's last user has written to it is done; pairs with release().
      if (!used[word].compare_exchange_weak(seen, seen | std::uint64_t{1} << bit,
                                            std::memory_order_acquire, kRelaxed)) {
        continue;
      }
      first_free_word.store(word, kRelaxed);
      const auto index = static_cast<std::uint32_t>(word * 64 + bit);
      std::uint32_t most = p->entries_used.load(kRelaxed);
      while (most <= index && !p->entries_used.compare_exchange_weak(most, index + 1, kRelaxed)) {
      }
      // Left odd by a call that was left in the middle of it.
      if ((p->entry[index].sequence.load(kRelaxed) & 1) != 0) p->entry[index].sequence.fetch_add(1);
      return &p->entry[index];
    }
  }
  // Two threads may have passed each other: the next call looks everywhere.
  first_free_word.store(0, kRelaxed);
  return nullptr;
}

void release(StatusPage* p, StatusEntry* entry) {
  const auto index = static_cast<std::size_t>(entry - p->entry);
  used[index / 64].fetch_and(~(std::uint64_t{1} << (index % 64)), std::memory_order_release);
  std::size_t lowest = first_free_word.load(kRelaxed);
  while (index / 64 < lowest &&
         !first_free_word.compare_exchange_weak(lowest, index / 64, kRelaxed)) {
  }
}

bool is_on(const StatusPage* p, const StatusEntry* entry) {
  return p != nullptr && entry >= p->entry && entry < p->entry + layout::kStatusEntries;
}

// A reader of the page takes an entry only when `sequence` was even and the same before and after. Another thread that
// changes it is waited for; not for ever, since this one may have interrupted it.
class EntryChange {
 public:
  explicit EntryChange(StatusEntry* entry) : entry_(entry) {
    for (int i = 0; i < kEntryReads && !owns_; ++i) {
      std::uint32_t even = entry->sequence.load(kRelaxed) & ~std::uint32_t{1};
      owns_ = entry->sequence.compare_exchange_strong(even, even + 1, std::memory_order_acquire,
                                                      kRelaxed);
    }
    ring::full_fence();  // the odd number is visible before anything that changes
  }
  // Release: what changed is visible before the even number.
  ~EntryChange() {
    if (owns_) entry_->sequence.fetch_add(1, std::memory_order_release);
  }
  EntryChange(const EntryChange&) = delete;
  EntryChange& operator=(const EntryChange&) = delete;
  bool owns() const { return owns_; }

 private:
  StatusEntry* entry_;
  bool owns_ = false;
};

layout::StatusTotals& totals(StatusPage* p, const StatusEntry* entry) {
  return entry->via.load(kRelaxed) == static_cast<std::uint32_t>(EntryVia::kSharedMemory)
             ? p->shared_memory
             : p->kernel;
}

// The entry's bytes go into the totals of the way they took. Inside an EntryChange.
void settle_bytes(StatusPage* p, StatusEntry* entry) {
  layout::StatusTotals& t = totals(p, entry);
  t.bytes_sent.fetch_add(entry->bytes_sent.exchange(0, kRelaxed), kRelaxed);
  t.bytes_received.fetch_add(entry->bytes_received.exchange(0, kRelaxed), kRelaxed);
}

void count_connection(StatusPage* p, EntryVia via) {
  layout::StatusTotals& t = via == EntryVia::kSharedMemory ? p->shared_memory : p->kernel;
  t.connections.fetch_add(1, kRelaxed);
}

void fill(StatusPage* p, StatusEntry* entry, const StatusReport& what) {
  const EntryChange change(entry);
  if (!change.owns()) return;
  const auto via = static_cast<std::uint32_t>(what.via);
  if (entry->via.load(kRelaxed) != via) {
    settle_bytes(p, entry);
    entry->via.store(via, kRelaxed);
  }
  entry->reason.store(static_cast<std::uint32_t>(what.reason), kRelaxed);
  copy_address(&entry->local, what.local);
  copy_address(&entry->peer, what.peer);
  copy_text(entry->peer_partition, what.peer_partition);
  copy_text(entry->detail, what.detail);
  entry->state.store(static_cast<std::uint32_t>(what.state), kRelaxed);
}

// In a child: `from` is on the parent's page, which the parent keeps changing.
bool copy_entry(const StatusEntry* from, StatusEntry* to) {
  for (int i = 0; i < kEntryReads; ++i) {
    const std::uint32_t before = from->sequence.load(std::memory_order_acquire);
    to->state.store(from->state.load(kRelaxed), kRelaxed);
    to->via.store(from->via.load(kRelaxed), kRelaxed);
    to->reason.store(from->reason.load(kRelaxed), kRelaxed);
    to->local = from->local;
    to->peer = from->peer;
    std::memcpy(to->peer_partition, from->peer_partition, sizeof to->peer_partition);
    std::memcpy(to->detail, from->detail, sizeof to->detail);
    ring::full_fence();  // the copies are done before the second look; pairs with EntryChange
    if ((before & 1) == 0 && from->sequence.load(kRelaxed) == before) return true;
  }
  return false;
}

// Moves an inherited socket from the parent's page (`context`) to the own one, not counted anew.
void inherit_entry(int /*fd*/, Socket* socket, void* context) {
  const auto* parents = static_cast<const StatusPage*>(context);
  const StatusEntry* old = socket->status;
  if (!is_on(parents, old)) return;  // none, or moved already: a duplicate descriptor
  socket->status = nullptr;
  StatusPage* p = the_page();
  if (p == nullptr) return;
  StatusEntry* entry = allocate(p);
  if (entry == nullptr) return;
  const Kind kind = socket->kind.load(std::memory_order_acquire);
  const bool plain = kind == Kind::kPlain;
  if (kind == Kind::kConnection || plain) {
    // Not from the parent's page: a server that forks closes its copy, and the entry, at once.
    const Connection* c = socket->connection;
    fill(p, entry,
         {.state = EntryState::kEstablished,
          .via = plain ? EntryVia::kKernel : EntryVia::kSharedMemory,
          .reason = plain ? wire::Reason::kPassedOn : wire::Reason::kNone,
          .detail = nullptr,
          .local = c->local,
          .peer = c->remote,
          .peer_partition = partition_name_of(c->remote)});
    socket->status = entry;
    return;
  }
  const EntryChange change(entry);  // of the child's only thread
  if (copy_entry(old, entry)) {
    socket->status = entry;
  } else {
    entry->state.store(static_cast<std::uint32_t>(EntryState::kFree), kRelaxed);
    release(p, entry);
  }
}

void count(std::atomic<std::uint64_t> StatusPage::*counter) {
  StatusPage* p = page.load(std::memory_order_acquire);
  if (p != nullptr) (p->*counter).fetch_add(1, kRelaxed);
}

}  // namespace

void report(Socket* socket, const StatusReport& what) {
  StatusPage* p = the_page();
  if (p == nullptr) return;
  StatusEntry* entry = is_on(p, socket->status) ? socket->status : nullptr;
  const bool established = what.state == EntryState::kEstablished;
  const bool was_established =
      entry != nullptr &&
      entry->state.load(kRelaxed) == static_cast<std::uint32_t>(EntryState::kEstablished);
  if (established && !was_established) count_connection(p, what.via);
  if (entry == nullptr) {
    entry = allocate(p);
    if (entry == nullptr) {
      if (established) p->entries_lost.fetch_add(1, kRelaxed);
      return;
    }
    entry->bytes_sent.store(0, kRelaxed);
    entry->bytes_received.store(0, kRelaxed);
  }
  fill(p, entry, what);
  socket->status = entry;
}

void show_downgraded(Socket* socket) {
  const Connection* c = socket->connection;
  count_reason(wire::Reason::kPassedOn);
  report(socket, {.state = EntryState::kEstablished,
                  .via = EntryVia::kKernel,
                  .reason = wire::Reason::kPassedOn,
                  .detail = nullptr,
                  .local = c->local,
                  .peer = c->remote,
                  .peer_partition = partition_name_of(c->remote)});
}

void retire(Socket* socket) {
  StatusPage* p = page.load(std::memory_order_acquire);
  StatusEntry* entry = socket->status;
  socket->status = nullptr;
  if (!is_on(p, entry)) return;
  {
    const EntryChange change(entry);
    settle_bytes(p, entry);
    entry->state.store(static_cast<std::uint32_t>(EntryState::kFree), kRelaxed);
  }
  release(p, entry);
}

void count_reason(wire::Reason reason) {
  const auto index = static_cast<std::uint32_t>(reason);
  if (index >= wire::kReasonCount) return;
  StatusPage* p = the_page();
  if (p != nullptr) p->reasons[index].fetch_add(1, kRelaxed);
}

void count_ring() { count(&StatusPage::rings_sent); }
void count_sleep() { count(&StatusPage::sleeps); }
void count_untrusted_reset() { count(&StatusPage::resets_untrusted); }
void count_kept_back() { count(&StatusPage::kept_back); }

void count_sent(Socket* s, std::uint64_t bytes) {
  assert(s->connection->tx.held_by_me());
  auto& total = s->connection->bytes_sent;
  total.store(total.load(kRelaxed) + bytes, kRelaxed);
  add_sent(s->status, bytes);
}

void count_received(Socket* s, std::uint64_t bytes) {
  assert(s->connection->rx.held_by_me());
  auto& total = s->connection->bytes_received;
  total.store(total.load(kRelaxed) + bytes, kRelaxed);
  add_received(s->status, bytes);
}

void start_status() { the_page(); }

void status_after_fork() {
  new (&making) Lock;  // whoever held it is a thread of the parent
  StatusPage* parents = page.load(kRelaxed);
  page_failed = false;
  if (parents == nullptr) return;
  const int fd = page_fd.load(kRelaxed);
  const int parents_fd = is_status_fd(fd) ? fd : -1;
  page.store(nullptr, kRelaxed);
  page_fd.store(-1, kRelaxed);
  // Made only when there is something to show: most children become another program at once.
  for_each(inherit_entry, parents, 0, table_limit());
  sys::munmap(parents, sizeof(StatusPage));
  if (parents_fd >= 0) sys::close(parents_fd);
}

bool is_status_fd(int fd) {
  if (fd < 0 || fd != page_fd.load(kRelaxed)) return false;
  // The number may have been taken behind our back: by a raw close, or dup2() onto it.
  struct stat st;
  if (sys::fstat(fd, &st) == 0 && st.st_ino == page_inode &&
      st.st_size == static_cast<off_t>(sizeof(StatusPage))) {
    return true;
  }
  page_fd.store(-1, kRelaxed);
  return false;
}

}  // namespace shunt::sockets
