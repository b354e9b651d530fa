// Reads one status page (layout/status_page.h) into plain values.
//
// The page belongs to the program that it describes, which may be hostile: it is copied with pread(2),
// never mapped, so that a page that is cut short while it is read gives an error and not a signal.
// Counts are bounded by the layout, strings by their field and stripped of what a terminal would obey.
//
// Thread safety: none needed. Errors: Result, see read_status_page.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/file.h"
#include "layout/status_page.h"
#include "wire/endpoint.h"
#include "wire/reason.h"

namespace shunt::cli {

struct Traffic {
  std::uint64_t connections = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
};

// A listener, or a connection that lives.
struct SocketStatus {
  layout::EntryState state = layout::EntryState::kFree;
  bool shared_memory = false;
  std::uint32_t reason = 0;  // wire::Reason; may be a number that this version does not know
  wire::Endpoint local;
  wire::Endpoint peer;
  std::string peer_partition;  // empty: the own one, or unknown
  std::string detail;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
};

struct PageStatus {
  std::uint32_t pid = 0;  // as the program knows itself: in its own pid namespace
  std::string partition;
  std::string window;
  Traffic shared_memory;
  Traffic kernel;
  std::array<std::uint64_t, wire::kReasonCount> reasons{};
  std::uint64_t resets_untrusted = 0;
  std::uint64_t rings_sent = 0;
  std::uint64_t sleeps = 0;
  std::uint64_t entries_lost = 0;
  std::uint64_t kept_back = 0;
  std::vector<SocketStatus> listeners;
  std::vector<SocketStatus> connections;
};

// EMEDIUMTYPE: not a status page. EPROTONOSUPPORT: of another version. EBADMSG: too short.
Result<PageStatus> read_status_page(const File& file);

// `text` with everything that is not printable ASCII replaced by '?'.
std::string printable(std::string text);

}  // namespace shunt::cli
