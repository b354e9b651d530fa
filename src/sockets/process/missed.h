// What epoll sets are told by the rooms below them.
//
// The kernel forgets an event that nobody has fetched when the bell is drained, and hears nothing of shutdown(). So
// whoever does either to a connection that epoll sets rely on notes it, under any locks, and rouses the sets' entries
// when it holds none. A connection that leaves its rings is watched otherwise from then on: rewatch().
//
// The calls go up the building, so they are made through EpollCalls, which wait/ leaves here when it makes the first
// epoll set. Until then no Socket has a registration, and there is nobody to tell.
//
// Thread safety: any thread.
#pragma once

#include <atomic>

namespace shunt::sockets {

struct Socket;

struct EpollCalls {
  void (*rouse)();           // looks again at every socket that was noted: take_missed()
  void (*rewatch)(Socket*);  // see rewatch()
  void (*drop_registrations)(
      Socket*);                  // the socket's last descriptor is gone: so are its registrations
  void (*destroy_set)(Socket*);  // of Kind::kEpoll
};
// `calls` lives for ever; always the same.
void serve_epolls(const EpollCalls* served);
const EpollCalls* epoll_calls();  // null: no epoll set has been made

// Async-signal-safe, under any locks.
void note_missed(Socket* socket);
// All that were noted, linked by next_missed; they are no longer noted.
Socket* take_missed();
extern std::atomic<Socket*> missed_sockets;
void rouse_missed_now();
// With no lock held.
inline void rouse_missed() {
  if (missed_sockets.load(std::memory_order_relaxed) != nullptr) rouse_missed_now();
}

// A connection was downgraded (downgrade/downgrade.h): from now on the kernel watches its bell for what the program
// asked for, by itself or, while a rest is to be moved, under our cookie. With no lock held.
void rewatch(Socket* socket);

}  // namespace shunt::sockets
