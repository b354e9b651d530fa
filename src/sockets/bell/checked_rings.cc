#include "sockets/bell/checked_rings.h"

#include <cassert>

#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"

namespace shunt::sockets {
namespace {
constexpr auto kRelaxed = std::memory_order_relaxed;
}  // namespace

void refresh_reader(Connection* c) {
  assert(c->rx.held_by_me());
  if (off_rings(c)) return;  // what is left in the area is known
  if (c->peer.load(std::memory_order_acquire) == nullptr || lost(c)) return;
  if (c->read_end().refresh() != ring::Status::kOk) reset_untrusted(c);
}

std::uint64_t readable_bytes(Connection* c) {
  assert(c->rx.held_by_me());
  refresh_reader(c);
  if (c->peer.load(kRelaxed) == nullptr || lost(c)) return 0;
  return c->read_end().available();
}

bool writer_has_room(Connection* c) {
  assert(c->tx.held_by_me());
  if (lost(c)) return false;
  ring::Writer writer = c->write_end();
  if (writer.writable()) return true;
  if (writer.refresh() != ring::Status::kOk) {
    reset_untrusted(c);
    return false;
  }
  return writer.writable();
}

}  // namespace shunt::sockets
