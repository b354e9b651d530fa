#include "driver/core/listeners_seen.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "ring/fence.h"

namespace shunt::driver {

void ListenersSeen::saw(const wire::Endpoint& listener) {
  ++clock_;
  const auto same = std::find(std::begin(known_), std::end(known_), listener);
  if (same != std::end(known_)) {
    const auto i = same - std::begin(known_);
    std::atomic<std::uint64_t>& connections = section_->listeners[i].connections;
    connections.store(connections.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    last_use_[i] = clock_;
    return;
  }
  const auto i = std::min_element(std::begin(last_use_), std::end(last_use_)) - last_use_;
  known_[i] = listener;
  last_use_[i] = clock_;
  layout::SeenListener& entry = section_->listeners[i];
  std::uint64_t words[2];
  std::memcpy(words, listener.address.data(), sizeof words);
  const std::uint32_t sequence = entry.sequence.load(std::memory_order_relaxed);
  entry.sequence.store(sequence + 1, std::memory_order_relaxed);
  ring::full_fence();  // odd before the fields change; pairs with the fence of the status reader
  entry.family.store(listener.family, std::memory_order_relaxed);
  entry.port.store(listener.port, std::memory_order_relaxed);
  entry.address[0].store(words[0], std::memory_order_relaxed);
  entry.address[1].store(words[1], std::memory_order_relaxed);
  entry.connections.store(1, std::memory_order_relaxed);
  // Even after the fields: pairs with the status reader's acquire load.
  entry.sequence.store(sequence + 2, std::memory_order_release);
  std::atomic<std::uint64_t>& seen = section_->header.counters.listeners_seen;
  seen.store(seen.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace shunt::driver
