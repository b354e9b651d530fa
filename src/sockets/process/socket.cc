#include "sockets/process/socket.h"

#include <cassert>

#include "sockets/process/missed.h"
#include "sockets/process/status.h"
#include "sockets/process/table.h"
#include "sockets/thread/free_list.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kSocketsInChunk = 128;

FreeList<Socket, &Socket::next_free> free_sockets;

Socket* allocate() {
  if (Socket* s = free_sockets.pop()) return s;
  void* memory = sys::mmap(nullptr, sizeof(Socket) * kSocketsInChunk, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == nullptr) return nullptr;
  auto* sockets = static_cast<Socket*>(memory);
  for (std::size_t i = kSocketsInChunk; i-- > 1;) free_sockets.push(&sockets[i]);
  return sockets;
}

// Everything the socket holds is given back.
void destroy(Socket* s) {
  const EpollCalls* epolls = epoll_calls();
  if (epolls != nullptr) epolls->drop_registrations(s);
  retire(s);
  if (s->listener != nullptr) s->listener->close(s);
  if (epolls != nullptr) epolls->destroy_set(s);
  const Kind kind = s->kind.load(std::memory_order_acquire);
  if (kind == Kind::kConnection || kind == Kind::kPlain) {
    // The pointer stays: a call that raced with the close may still follow it, to a page that is
    // always a Connection, and finds under its locks that the descriptor is gone.
    Connection* c = s->connection;
    c->tx.acquire();
    c->rx.acquire();
    if (c->own_place.arena != nullptr) c->own_place.arena->read_habit.store(s->read_spin);
    leave_areas(c);
    free_connection(c);
  }
  if (s->reservation >= 0) sys::close(s->reservation);
  s->reservation = -1;
}

// With the last reference gone.
void release(Socket* socket) {
  destroy(socket);
  socket->kind.store(Kind::kFree, std::memory_order_release);
  free_sockets.push(socket);
}

}  // namespace

Socket* enter(int fd, Kind kind, std::uint16_t family) {
  if (!fits_in_table(fd)) return nullptr;
  Socket* s = allocate();
  if (s == nullptr) return nullptr;
  s->family = family;
  s->connect_unreported = false;
  s->refs.store(0, std::memory_order_relaxed);
  s->inode = 0;
  s->reservation = -1;
  s->listener = nullptr;
  s->epoll = nullptr;
  s->registrations = nullptr;
  s->next_glance.store(0, std::memory_order_relaxed);
  s->read_spin = {};
  s->write_spin = {};
  s->forbidden = false;
  s->reason = wire::Reason::kNone;
  s->detail = nullptr;
  s->status = nullptr;
  s->kind.store(kind, std::memory_order_release);
  enter_again(fd, s);
  return s;
}

void enter_again(int fd, Socket* socket) {
  pin(socket);
  Socket* stale = nullptr;
  if (!put_in_table(fd, socket, &stale)) {
    unpin(socket);
    return;
  }
  // The number was closed behind our back; the kernel has given it out anew.
  if (stale != nullptr) drop_reference(stale);
}

void drop_reference(Socket* socket) { unpin(socket); }

void pin(Socket* socket) { socket->refs.fetch_add(1, std::memory_order_acq_rel); }

Socket* lookup_pinned(int fd) {
  for (;;) {
    Socket* s = lookup(fd);
    if (s == nullptr) return nullptr;
    std::uint32_t refs = s->refs.load(std::memory_order_acquire);
    // 0: its last reference is being dropped; a pin would bring a dead socket back.
    while (refs != 0 && !s->refs.compare_exchange_weak(refs, refs + 1, std::memory_order_acq_rel)) {
    }
    if (refs == 0) return nullptr;
    if (lookup(fd) == s) return s;
    unpin(s);
  }
}

void unpin(Socket* socket) {
  const std::uint32_t refs = socket->refs.fetch_sub(1, std::memory_order_acq_rel);
  assert(refs != 0);
  if (refs == 1) release(socket);
}

void note_bell(int fd, Socket* socket) {
  struct stat st;
  socket->inode = sys::fstat(fd, &st) == 0 ? st.st_ino : 0;
}

bool names_bell(int fd, const Socket* socket) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode)) return false;
  return socket->inode == 0 || socket->inode == st.st_ino;
}

int waiting_descriptor(int fd, const Socket* s) {
  return s->listener != nullptr ? s->listener->waiter : fd;
}

void sockets_after_fork() {
  for_each(
      [](int, Socket* s, void*) {
        s->lock.reset_after_fork();
        s->connecting.reset_after_fork();
      },
      nullptr, 0, table_limit());
}

}  // namespace shunt::sockets
