// What source address may a request claim? The driver vouches for it to the other partition.
//
// The connecting program shows the TCP socket that reserves its local port; the kernel says what it
// is bound to, and in which network namespace. The message's own source field is not believed.
//
// Thread safety: pure but for the kernel's answers.
#pragma once

#include <cstdint>
#include <optional>

#include "wire/endpoint.h"
#include "wire/partition_table.h"

namespace shunt::driver {

// Of the calling thread's network namespace. Throws std::system_error where the kernel cannot tell.
std::uint64_t own_netns_cookie();

// The source for a request to `destination`: nullopt unless `socket` is a TCP socket of this network
// namespace, not connected, bound to a port and to an address of `self`. A wildcard address becomes
// the partition's first address of the destination's family.
std::optional<wire::Endpoint> reserved_source(int socket, const wire::Partition& self,
                                              std::uint64_t netns_cookie,
                                              const wire::Endpoint& destination);

// Whether `socket` can be a bell: a connected AF_UNIX stream socket. One that listens never hangs up.
bool is_bell(int socket);

}  // namespace shunt::driver
