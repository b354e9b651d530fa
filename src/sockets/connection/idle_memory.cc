#include "sockets/connection/idle_memory.h"

#include <cassert>

#include "sockets/thread/spin.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::uint32_t kGrownSegments = 4;  // up to here a buffer is left alone
constexpr std::uint64_t kLookEveryUs = 1'000'000;
constexpr int kRemembered = 64;  // more grown connections at once wait their turn

// Pages of connections are type-stable, so a stale pointer here still points to a Connection.
std::atomic<Connection*> grown[kRemembered];
std::atomic<std::uint32_t> grown_count{0};
std::atomic<std::uint64_t> last_look{0};

void give_back(Connection* c, ring::Writer& writer) {
  assert(c->tx.held_by_me());
  std::uint64_t bits = writer.take_released();
  while (bits != 0) {
    const auto index = static_cast<std::uint32_t>(__builtin_ctzll(bits));
    bits &= bits - 1;
    sys::madvise(c->own_segments.at(index), layout::kSegmentBytes, MADV_REMOVE);
  }
}

// True: forget it. With tx held.
bool trim(Connection* c) {
  assert(c->tx.held_by_me());
  if (c->own == nullptr || !c->remembered_as_grown) return true;
  ring::Writer writer = c->write_end();
  const bool drained = writer.refresh() == ring::Status::kOk && writer.in_flight() == 0;
  const bool stood_still = c->writer.head == c->head_at_trim;
  c->head_at_trim = c->writer.head;
  if (!drained || !stood_still) return false;
  writer.shrink();
  give_back(c, writer);
  c->remembered_as_grown = false;
  return true;
}

}  // namespace

void settle_segments(Connection* c) {
  assert(c->tx.held_by_me());
  ring::Writer writer = c->write_end();
  if (c->writer.released != 0) give_back(c, writer);
  if (c->remembered_as_grown || writer.segments() <= kGrownSegments) return;
  for (std::atomic<Connection*>& slot : grown) {
    Connection* empty = nullptr;
    if (slot.load(std::memory_order_relaxed) == nullptr &&
        slot.compare_exchange_strong(empty, c, std::memory_order_acq_rel)) {
      c->remembered_as_grown = true;
      grown_count.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
}

void trim_idle() {
  if (grown_count.load(std::memory_order_relaxed) != 0) trim_idle_at(ticks());
}

void trim_idle_at(std::uint64_t now) {
  std::uint64_t before = last_look.load(std::memory_order_relaxed);
  if (now - before < kLookEveryUs * ticks_per_us ||
      !last_look.compare_exchange_strong(before, now, std::memory_order_relaxed)) {
    return;
  }
  for (std::atomic<Connection*>& slot : grown) {
    Connection* c = slot.load(std::memory_order_acquire);
    if (c == nullptr || !c->tx.try_acquire()) continue;
    const bool forget = trim(c);
    c->tx.release();
    if (forget && slot.compare_exchange_strong(c, nullptr, std::memory_order_acq_rel)) {
      grown_count.fetch_sub(1, std::memory_order_relaxed);
    }
  }
}

}  // namespace shunt::sockets
