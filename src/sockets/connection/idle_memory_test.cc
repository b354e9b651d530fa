#include "sockets/connection/idle_memory.h"

#include <string>

#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/testing/test_connection.h"
#include "sockets/thread/spin.h"

namespace shunt::sockets {
namespace {

constexpr std::size_t kBurst = 1 << 20;

struct Burst {
  ShuntedPair pair;
  std::string buffer = std::string(kBurst, 'b');

  void send() {
    const iovec part{buffer.data(), buffer.size()};
    EXPECT_EQ(static_cast<long>(kBurst),
              send_stream(pair.a.fd, pair.a.socket, &part, 1, MSG_DONTWAIT));
  }
  void receive() {
    const iovec part{buffer.data(), buffer.size()};
    EXPECT_EQ(static_cast<long>(kBurst),
              receive_stream(pair.b.fd, pair.b.socket, &part, 1, MSG_WAITALL));
  }
  std::uint32_t segments() const { return pair.a.connection()->write_end().segments(); }
};

// Each look is later than a second after the one before.
void look() {
  static std::uint64_t now = ticks();
  now += 2'000'000 * ticks_per_us;
  trim_idle_at(now);
}

TEST(Trim, GivesASilentConnectionsMemoryBack) {
  Burst burst;
  burst.send();
  burst.receive();
  ASSERT_GE(burst.segments(), kBurst / layout::kSegmentBytes);
  look();
  EXPECT_GE(burst.segments(), kBurst / layout::kSegmentBytes) << "it moved since the last look";
  look();
  EXPECT_EQ(burst.segments(), ring::kMinSegments);
  burst.send();  // and it works as before
  burst.receive();
}

TEST(Trim, LeavesUnreadBytesAlone) {
  Burst burst;
  burst.send();
  const std::uint32_t grown = burst.segments();
  look();
  look();
  look();
  EXPECT_EQ(burst.segments(), grown);
  burst.receive();
}

TEST(Trim, ForgetsAClosedConnection) {
  {
    Burst burst;
    burst.send();
  }
  look();
  look();
  Burst next;  // may use the same page
  next.send();
  next.receive();
  look();
  look();
  EXPECT_EQ(next.segments(), ring::kMinSegments);
}

}  // namespace
}  // namespace shunt::sockets
