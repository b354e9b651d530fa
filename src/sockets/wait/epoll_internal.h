// Data of epoll.h, shared by epoll_control.cc and epoll_wait.cc.
#pragma once

#include "sockets/wait/epoll.h"

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
  EpollEntry* next_of_set;
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
  EpollEntry* hot;
  EpollEntry* recent[kRecent];  // connections' entries by descriptor, some of them
  SpinBudget spin;
};

inline constexpr std::uint32_t kKickIndex = 0xffffff;
std::uint64_t cookie_of(std::uint32_t index);
// The entry that a kernel event is about; nullptr: the event is the program's own. *kick: it is the
// set's own wake-up.
EpollEntry* entry_of(std::uint64_t cookie, EpollSet* set, bool* kick);

// A forked child shares the kernel's instance with its parent, but its entries are as they were at the fork: until
// the child itself uses the set, nothing in the kernel is changed for what happens to its connections here.
void use_inherited_set(EpollSet* set);
inline void use_set(EpollSet* set) {
  if (set->inherited) use_inherited_set(set);
}

// With the set's lock held.
void make_hot(EpollEntry* entry);
void make_cold(EpollEntry* entry);  // off the hot list, without arming
// Arms for what the entry waits for and looks again; true: there is an event after all, and the
// entry is not armed.
bool arm(EpollEntry* entry);
void disarm(EpollEntry* entry);
// Events to report now, 0: none. `take`: they are reported, so the edge that justifies them is used.
std::uint32_t due_events(EpollEntry* entry, bool take);

}  // namespace shunt::sockets
