#include "sockets/wait/epoll_lifetime.h"

#include "sockets/process/missed.h"
#include "sockets/process/table.h"
#include "sockets/wait/epoll_entry.h"
#include "sockets/wait/epoll_registry.h"
#include "sockets/wait/epoll_rouse.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kSetBytes = 4096;
static_assert(sizeof(EpollSet) <= kSetBytes);

void drop_registrations(Socket* s) {
  if (s->registrations == nullptr) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  while (EpollEntry* e = s->registrations) {
    Hold hold(e->set->lock);
    forget(e);
  }
}

void destroy_set(Socket* s) {
  EpollSet* set = s->epoll;
  s->epoll = nullptr;
  if (set == nullptr) return;
  SignalsBlocked blocked;
  Hold registered(registry);
  {
    Hold hold(set->lock);
    while (set->entries != nullptr) forget(set->entries);
  }
  if (set->kick != 0) sys::close(set->kick);
  sys::munmap(set, kSetBytes);
}

constexpr EpollCalls kCalls{rouse_registrations, rewatch_registrations, drop_registrations,
                            destroy_set};

}  // namespace

void made_epoll(int epfd) {
  SignalsBlocked blocked;
  Hold hold(registry);
  serve_epolls(&kCalls);
  make_secret();
  void* memory =
      sys::mmap(nullptr, kSetBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == nullptr) return;
  Socket* s = enter(epfd, Kind::kEpoll, 0);
  if (s == nullptr) {
    sys::munmap(memory, kSetBytes);
    return;
  }
  s->epoll = static_cast<EpollSet*>(memory);
  s->epoll->epfd = epfd;
}

void epolls_after_fork() {
  registry.reset_after_fork();
  registering.store(0, std::memory_order_relaxed);
  for_each(
      [](int, Socket* s, void*) {
        if (s->epoll == nullptr) return;
        s->epoll->lock.reset_after_fork();
        s->epoll->inherited = true;
      },
      nullptr, 0, table_limit());
  for_each(
      [](int, Socket* s, void*) {
        for (EpollEntry* e = s->registrations; e != nullptr; e = e->next_of_socket) {
          Hold hold(e->set->lock);
          e->armed_read = e->armed_write = false;
          e->fresh = true;
          make_hot(e);
        }
      },
      nullptr, 0, table_limit());
}

}  // namespace shunt::sockets
