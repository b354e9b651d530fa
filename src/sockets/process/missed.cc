#include "sockets/process/missed.h"

#include "sockets/process/socket.h"

namespace shunt::sockets {
namespace {
std::atomic<const EpollCalls*> calls{nullptr};
}  // namespace

std::atomic<Socket*> missed_sockets{nullptr};

// Release: whoever sees the functions sees what they need.
void serve_epolls(const EpollCalls* served) { calls.store(served, std::memory_order_release); }

const EpollCalls* epoll_calls() { return calls.load(std::memory_order_acquire); }

void note_missed(Socket* s) {
  if (s->missed.exchange(true, std::memory_order_acq_rel)) return;
  Socket* head = missed_sockets.load(std::memory_order_relaxed);
  do {
    s->next_missed = head;
  } while (!missed_sockets.compare_exchange_weak(head, s, std::memory_order_release));
}

Socket* take_missed() { return missed_sockets.exchange(nullptr, std::memory_order_acquire); }

void rouse_missed_now() {
  if (const EpollCalls* to = epoll_calls()) to->rouse();
}

void rewatch(Socket* s) {
  if (const EpollCalls* to = epoll_calls()) to->rewatch(s);
}

}  // namespace shunt::sockets
