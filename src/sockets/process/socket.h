// Socket: what this process knows about one of the program's TCP sockets (or epoll instances).
//
// Lifetime: a Socket is alive while a descriptor of this process refers to it or a call is using it
// across a sleep (a pin); `refs` counts both. Memory of Sockets is type-stable, so a racing reader of a dead
// one reads a Socket, finds the table changed, and starts over.
// Thread safety: `kind` and pointers are published with release and read with acquire; `lock`
// guards changes of kind and the registrations. Calls that hold it run with signals blocked.
#pragma once

#include <atomic>
#include <cstdint>

#include "layout/status_page.h"
#include "sockets/connection/connection.h"
#include "sockets/process/table.h"
#include "sockets/thread/lock.h"
#include "sockets/thread/signals.h"
#include "sockets/thread/spin.h"

namespace shunt::sockets {

enum class Kind : std::uint8_t {
  kFree,
  kTcp,        // a TCP socket, not connected, not listening
  kKernelTcp,  // connected by kernel TCP; only counted
  kListener,
  kConnection,  // shunted
  kPlain,       // was shunted, downgraded: see holders/adopt.h
  kEpoll,
};

inline constexpr int kMaxPending = 64;

// A listener's second face: beside the kernel's TCP listener an AF_UNIX one for rendezvous, both
// (and connections whose CONNECT is still on its way) in one hidden epoll instance, which stands for
// the listener wherever the program waits for it.
struct Socket;
struct Listener {
  int rendezvous;
  int waiter;   // the hidden epoll instance
  int watched;  // the kernel's listener, by the number that it is watched under
  wire::Endpoint local;
  bool dual_stack;
  bool program_nonblocking;  // what F_GETFL shows; the kernel's listener is always non-blocking
  int pending_count;
  int pending[kMaxPending];
  void (*close)(Socket*);  // gives everything here back, and this too
  int spare;               // a descriptor to be given up where a handshake needs one; 0: none
  std::uint32_t turn;      // so that neither kind of client starves
  SignalWatch signals;
};

struct EpollEntry;
struct EpollSet;

// Lines of its own: two ends in one program are neighbours in memory, and each writes its spin budgets all the time.
struct alignas(64) Socket {
  std::atomic<Kind> kind;
  std::uint16_t family;     // AF_INET or AF_INET6 of the TCP socket
  bool connect_unreported;  // non-blocking connect: EINPROGRESS was given, 0 is due
  std::atomic<std::uint32_t> refs;
  Lock lock;
  Lock connecting;         // held over a whole connect(), which may wait; before `lock`
  Connection* connection;  // kConnection, kPlain; later the last one, for racing calls
  std::uint64_t inode;     // of the bell, to tell it from a file that took its number; 0: unknown
  int reservation;         // the TCP socket that holds the local port; -1: none
  Listener* listener;
  EpollSet* epoll;            // kEpoll
  EpollEntry* registrations;  // where epoll sets watch this socket
  std::atomic<bool> missed;   // on the list of note_missed()
  Socket* next_missed;
  std::atomic<std::uint64_t> next_glance;  // ticks: see glance()
  SpinBudget read_spin;
  SpinBudget write_spin;
  bool forbidden;       // the program asked for what only kernel TCP can do: see reason
  wire::Reason reason;  // why not shared memory, as far as known
  const char* detail;   // e.g. the option's name
  layout::StatusEntry* status;
  std::atomic<Socket*> next_free;
};

// Whether `fd` is, at this moment, the connection that a call found `socket` to be when it read
// `connection` from it. With one of the connection's locks held the answer stays true.
inline bool still_under(int fd, const Socket* socket, const Connection* connection) {
  return lookup(fd) == socket &&
         socket->kind.load(std::memory_order_acquire) == Kind::kConnection &&
         socket->connection == connection;
}
// Takes a Socket into use, entered for `fd` (which the kernel has just given to the caller).
// nullptr: no memory, or `fd` is beyond the table: then it is simply not ours.
Socket* enter(int fd, Kind kind, std::uint16_t family);
// A further descriptor for the same socket.
void enter_again(int fd, Socket* socket);
void drop_reference(Socket* socket);

// Only for a caller that knows the Socket to be alive (it holds a lock that a close needs).
void pin(Socket* socket);
// lookup() and pin() in one; null: not ours.
Socket* lookup_pinned(int fd);
void unpin(Socket* socket);

// The file under `fd` is `socket`'s bell: remembers that. names_bell: whether it still is. The table may be
// wrong about a number that was closed behind our back, and in a vfork child it is the parent's.
void note_bell(int fd, Socket* socket);
bool names_bell(int fd, const Socket* socket);
// The descriptor that stands for a listener in a kernel wait; `fd` itself for any other socket.
int waiting_descriptor(int fd, const Socket* socket);

// In the child of a fork: locks of threads that do not exist here.
void sockets_after_fork();

}  // namespace shunt::sockets
