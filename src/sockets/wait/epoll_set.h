// epoll over shunted connections.
//
// The program's epoll descriptor is a kernel epoll instance. Kernel sockets are registered in it with
// the program's own data and cost nothing extra; a listener is represented by its waiting descriptor.
// For a shunted connection the kernel watches the bell, edge-triggered, under a cookie of ours, and
// an EpollEntry remembers what the program asked for.
//
// An entry is *hot* (its lines are looked at in user space by every wait) or *armed* (the peer knows
// that we sleep and rings). Before a wait sleeps it arms every hot entry, so a wait costs O(hot), and
// an idle connection nothing. A ring makes its entry hot again.
//
// Level-, edge-triggered and one-shot reports follow Linux: an edge is new data, the end of the
// stream, or space after a lack of it; each report gives every wanted event that holds.
// Thread safety: any thread; a set's lock is never held while sleeping. Results: >= 0 or -errno.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "sockets/process/socket.h"

namespace shunt::sockets {

enum class Watched : std::uint8_t {
  kPlain,       // the kernel knows it under the program's data
  kConnection,  // the kernel watches its bell under our cookie
  kEpoll,       // a nested epoll instance, under the program's data
};

struct EpollEntry {
  EpollSet* set;
  Socket* socket;
  int fd;                // under which it was registered
  std::uint32_t events;  // as the program asked, flags included
  epoll_data_t data;
  std::uint32_t index;  // in the cookie
  Watched watched;
  bool spent;    // one-shot, reported: silent until modified
  bool dormant;  // removed by the program; the kernel's registration waits for an ADD
  bool hot;
  bool armed_read;
  bool armed_write;
  bool fresh;                   // just added or modified: report what holds, whatever was reported
  std::uint32_t idle_looks;     // looks in a row without an event
  std::uint32_t seen_lacks;     // Connection::space_lacks at the last report; the edge of EPOLLOUT
  std::uint64_t reported_head;  // the peer's head at the last report; the edge of EPOLLIN
  std::uint32_t rest_mask;      // what the kernel watches a downgraded connection's bell for
  std::uint32_t reported_end;   // HUP, RDHUP, ERR at the last report
  EpollEntry* next_hot;         // circular
  EpollEntry* previous_hot;
  EpollEntry* next_of_socket;
  EpollEntry* previous_of_socket;
  EpollEntry* next_of_set;
  EpollEntry* previous_of_set;
  EpollEntry* next_free;
};

inline constexpr int kRecent = 128;

struct EpollSet {
  Lock lock;
  int epfd;
  std::atomic<std::uint32_t> special;   // entries that are not kPlain
  std::atomic<bool> has_cookies;        // the kernel may hold registrations under our cookies
  std::atomic<std::uint32_t> sleepers;  // threads in the kernel's wait
  bool inherited;                       // the kernel's instance is the parent's too: see use_set()
  int kick;                             // eventfd that wakes them; 0 until needed
  EpollEntry* entries;
  std::uint32_t nested;  // entries that are epoll instances themselves
  EpollEntry* hot;
  EpollEntry* recent[kRecent];  // connections' entries by descriptor, some of them
  SpinBudget spin;
};

}  // namespace shunt::sockets
