#include "sockets/setup/establish.h"

#include "base/trace.h"
#include "sockets/connection/areas.h"
#include "sockets/process/config.h"
#include "sockets/process/status.h"
#include "sys/kernel.h"

namespace shunt::sockets {

bool make_parts(Parts* parts) {
  parts->connection = allocate_connection();
  return parts->connection != nullptr;
}

bool own_object(Parts* parts) {
  layout::Area* area = make_area(&parts->generation, &parts->area_fd);
  if (area == nullptr) return false;
  parts->connection->use_own(area);
  parts->connection->write_end().set_limit(layout::kStreamBytes);
  return true;
}

void own_place(Parts* parts, const PlaceRef& place, std::uint32_t generation) {
  Connection* c = parts->connection;
  c->own_place = place;
  c->use_own({own_control(place), own_segments(place)});
  c->write_end().set_limit(layout::kStreamBytes);
  parts->generation = generation;
}

bool adopt_range(Parts* parts, int device, const wire::Location& where, std::uint32_t generation) {
  Connection* c = parts->connection;
  const std::uint32_t map_bytes = area_map_bytes();
  c->use_own(map_own_range(device, where, generation, map_bytes));
  if (c->own == nullptr) return false;
  c->relayed = true;
  calibrate_far();
  c->map_bytes = map_bytes;
  parts->generation = generation;
  c->write_end().set_limit(layout::kStreamBytes);
  return true;
}

void discard(Parts* parts) {
  if (parts->area_fd >= 0) sys::close(parts->area_fd);
  parts->area_fd = -1;
  Connection* c = parts->connection;
  parts->connection = nullptr;
  if (c == nullptr) return;
  c->tx.acquire();
  c->rx.acquire();
  c->holders.store(0, std::memory_order_relaxed);
  leave_areas(c);
  free_connection(c);
}

wire::Location own_location() {
  return {.object = wire::kObjectDescriptor, .offset = 0, .length = layout::kAreaBytes};
}

wire::Location place_location(const PlaceRef& place) {
  return {.object = wire::kObjectPlace, .offset = place.index, .length = place.arena->shape.places};
}

void install(int fd, Socket* socket, Connection* connection, const char* peer_partition) {
  note_bell(fd, socket);
  socket->connection = connection;
  if (connection->own_place.arena != nullptr)
    socket->read_spin = connection->own_place.arena->read_habit.load();
  socket->read_spin.far = socket->write_spin.far = connection->relayed;
  socket->kind.store(Kind::kConnection, std::memory_order_release);
  report(socket, {.state = layout::EntryState::kEstablished,
                  .via = layout::EntryVia::kSharedMemory,
                  .reason = wire::Reason::kNone,
                  .detail = nullptr,
                  .local = connection->local,
                  .peer = connection->remote,
                  .peer_partition = peer_partition});
}

void install_kernel(int fd, Socket* socket, wire::Reason reason, const char* detail) {
  SHUNT_TRACE(kernel_tcp, fd, reason);
  sockaddr_storage address{};
  wire::Endpoint local;
  wire::Endpoint remote;
  socklen_t length = sizeof address;
  if (sys::getsockname(fd, &address, &length) == 0) {
    const auto e = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
    if (e.ok()) local = e.value();
  }
  length = sizeof address;
  if (sys::getpeername(fd, &address, &length) == 0) {
    const auto e = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length);
    if (e.ok()) remote = e.value();
  }
  socket->reason = reason;
  socket->detail = detail;
  socket->kind.store(Kind::kKernelTcp, std::memory_order_release);
  count_reason(reason);
  report(socket, {.state = layout::EntryState::kEstablished,
                  .via = layout::EntryVia::kKernel,
                  .reason = reason,
                  .detail = detail,
                  .local = local,
                  .peer = remote,
                  .peer_partition = partition_name_of(remote)});
}

}  // namespace shunt::sockets
