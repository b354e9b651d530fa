// The registry of epoll entries: who is registered where.
//
// Locks: `registry` (all lists of entries) before a set's lock before a connection's locks. With registry held,
// signals are blocked. A Socket's lock may be held by the caller while its kind is not yet kConnection; of a
// connection it is taken with registry held, when sets are roused after a downgrade.
// Thread safety: any thread; the locks that each function names are held.
#pragma once

#include "sockets/wait/epoll_set.h"

namespace shunt::sockets {

// A socket changes what stands for it in the kernel (it becomes a connection or a listener). Its
// registrations, made while it was plain TCP, are taken out of the kernel before the change, while
// the descriptor still names the TCP socket, and put back after it. Where the socket has none, nothing is locked.
void detach_registrations(Socket* socket);
void attach_registrations(Socket* socket);

// ---- for the other files of this room ----

extern Lock registry;

// While a call may make a registration: it looks at the socket's kind after this, and who changes the kind looks at the
// count after that, so one of them sees the other. Signals are blocked.
extern std::atomic<std::uint32_t> registering;
class Registering {
 public:
  Registering() { registering.fetch_add(1, std::memory_order_seq_cst); }
  ~Registering() { registering.fetch_sub(1, std::memory_order_seq_cst); }
  Registering(const Registering&) = delete;
  Registering& operator=(const Registering&) = delete;
};

// With registry and the set's lock held:
EpollEntry* find(const Socket* socket, const EpollSet* set, int fd);  // nullptr: not registered
// nullptr: no memory.
EpollEntry* remember(EpollSet* set, Socket* socket, int fd, const epoll_event& event,
                     Watched watched);
// Out of the set's care; the kernel's registration is not touched.
void forget(EpollEntry* entry);

// With the set's lock held:
// Makes the kernel's side of the set ready, so that its waiters look at the hot list.
void signal(EpollSet* set);
// The same if a thread sleeps in the kernel's wait.
void kick(EpollSet* set);
// What the kernel is told of a connection's bell.
epoll_event bell_event(const EpollEntry* entry);

inline constexpr std::uint32_t kKickIndex = 0xffffff;
void make_secret();  // of the cookies, once for the process
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

}  // namespace shunt::sockets
