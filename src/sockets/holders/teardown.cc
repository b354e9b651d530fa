// The end of a Socket: everything it holds is given back.
#include "sockets/process/socket.h"
#include "sockets/process/status.h"
#include "sockets/setup/listener.h"
#include "sockets/wait/epoll.h"
#include "sys/kernel.h"

namespace shunt::sockets {

void destroy(Socket* s) {
  drop_registrations(s);
  retire(s);
  close_listener(s);
  destroy_epoll_set(s);
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kConnection || kind == Kind::kPlain) {
    // The pointer stays: a call that raced with the close may still follow it, to a page that is
    // always a Connection, and finds under its locks that the descriptor is gone.
    Connection* c = s->connection;
    c->tx.acquire();
    c->rx.acquire();
    unmap_areas(c);
    free_connection(c);
  }
  if (s->reservation >= 0) sys::close(s->reservation);
  s->reservation = -1;
}

}  // namespace shunt::sockets
