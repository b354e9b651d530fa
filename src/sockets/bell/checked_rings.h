// The rings of a connection, looked at with the checks that a peer's memory needs: a peer whose area says what cannot
// be is reset here, once and for all, and nothing of it is read afterwards.
//
// Thread safety: the lock that each function names is held.
#pragma once

#include <cstdint>

#include "sockets/connection/connection.h"

namespace shunt::sockets {

// Refreshes the reader unless the connection is lost; resets the connection when the peer's area is corrupt.
// With rx held. Afterwards the reader's available() is up to date.
void refresh_reader(Connection* connection);
// Bytes to read, 0 when lost or not connected yet. With rx held.
std::uint64_t readable_bytes(Connection* connection);
// Room for the writer, refreshed; with tx held.
bool writer_has_room(Connection* connection);

}  // namespace shunt::sockets
