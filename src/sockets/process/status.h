// The provider's status page: what `shunt status` shows of this process.
//
// Thread safety: every function may be called concurrently. The page is made on first use and made
// anew in the child of a fork. Without memory or descriptors nothing is recorded and nothing fails.
#pragma once

#include <cstdint>

#include "layout/status_page.h"
#include "wire/endpoint.h"
#include "wire/reason.h"

namespace shunt::sockets {

struct Socket;

struct StatusReport {
  layout::EntryState state;
  layout::EntryVia via;
  wire::Reason reason;
  const char* detail;  // may be null
  wire::Endpoint local;
  wire::Endpoint peer;
  const char* peer_partition;  // may be null
};

// Shows the socket, or replaces what was shown. A new established connection is counted.
void report(Socket* socket, const StatusReport& what);
// A connection that left shared memory (downgrade.h): counted and shown from now on as the kernel's.
void show_downgraded(Socket* socket);
// Takes the socket off the page; its bytes go into the totals.
void retire(Socket* socket);
void count_reason(wire::Reason reason);
void count_ring();
void count_sleep();
void count_untrusted_reset();
void count_kept_back();

// The byte counts of a live socket; on the hot path: one relaxed load and store.
inline void add_sent(layout::StatusEntry* entry, std::uint64_t bytes) {
  if (entry == nullptr) return;
  entry->bytes_sent.store(entry->bytes_sent.load(std::memory_order_relaxed) + bytes,
                          std::memory_order_relaxed);
}
inline void add_received(layout::StatusEntry* entry, std::uint64_t bytes) {
  if (entry == nullptr) return;
  entry->bytes_received.store(entry->bytes_received.load(std::memory_order_relaxed) + bytes,
                              std::memory_order_relaxed);
}

// Bytes that the rings carried; with tx or rx held, respectively.
void count_sent(Socket* socket, std::uint64_t bytes);
void count_received(Socket* socket, std::uint64_t bytes);

void start_status();
void status_after_fork();  // in the child
// Whether `fd` is the provider's own: a program that closes everything must not close it.
bool is_status_fd(int fd);

}  // namespace shunt::sockets
