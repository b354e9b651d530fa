#include "sockets/options/plain_state.h"

#include <poll.h>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

short kernel_events(int fd) {
  pollfd p{fd, POLLIN | POLLRDHUP, 0};
  const timespec now{0, 0};
  return sys::ppoll(&p, 1, &now, nullptr) == 1 ? p.revents : short{0};
}

}  // namespace

bool plain_disconnected(int fd, Socket* s) {
  const conn::State& state = s->connection->state;
  if (state.dead) return true;
  const short events = kernel_events(fd);
  return (events & POLLERR) != 0 || ((events & POLLHUP) != 0 && state.write_shut);
}

void note_plain_reset(Socket* s) {
  Hold hold(s->connection->state_lock);
  s->connection->state.dead = true;
}

std::uint8_t plain_tcp_state(int fd, Socket* s) {
  if (plain_disconnected(fd, s)) return kClose;
  const bool write_shut = s->connection->state.write_shut;
  if ((kernel_events(fd) & (POLLHUP | POLLRDHUP)) != 0) return write_shut ? kClose : kCloseWait;
  return write_shut ? kFinWait2 : kEstablished;
}

}  // namespace shunt::sockets
