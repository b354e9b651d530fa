// queue_reader: the lane of another partition's output queue, in that partition's section (window/queue_reader.h)
//
// Untrusted: the producer's section, all of it; on a device our own acknowledgement too, for anybody may write
// there. Asserted: the reader looks at nothing of the section but its lane, that lane's entries and the buffers;
// what it answers is what the contract says (Expected, below); a message is a copy of what an entry points to,
// inside the buffers; nothing of our section changes but the acknowledgement, which tells session and position.
#include <cstring>
#include <memory>
#include <optional>

#include "fuzz/harness.h"
#include "fuzz/two_views.h"
#include "window/queue_reader.h"

namespace shunt::fuzz {
namespace {

using layout::Section;
using window::QueueReader;
using window::ReadResult;
using window::Sessions;

Mark read_message("message read");
Mark bad_entry("bad entry");
Mark bad_lane("bad lane");
Mark followed("session followed");

constexpr std::uint32_t kProducer = 1;
constexpr std::uint32_t kOwn = 2;
// The smallest, so that the ring goes round soon.
constexpr layout::SectionGeometry kGeometry =
    layout::section_geometry(layout::section_bytes_min(2), 2);
constexpr std::uint32_t kEntries = kGeometry.lane_entries;

struct Memory {
  TwoViews producer{kGeometry.section_bytes};
  Bytes own_bytes = Bytes(kGeometry.section_bytes + 128);
  Section* own;

  Memory() {
    void* at = own_bytes.data();
    std::size_t room = own_bytes.size();
    own = static_cast<Section*>(std::align(128, kGeometry.section_bytes, at, room));
    producer.show(offsetof(Section, lanes) + (kOwn - 1) * sizeof(layout::LaneControl), 16);
    producer.show(kGeometry.entries_offset(kOwn - 1), kEntries * sizeof(layout::LaneEntry));
    producer.show(kGeometry.buffers_offset(0),
                  kGeometry.buffers_end() - kGeometry.buffers_offset(0));
  }
  Section* lies() { return reinterpret_cast<Section*>(producer.writable()); }
  layout::LaneControl& lane() { return lies()->lanes[kOwn - 1]; }
  layout::LaneEntry& entry(std::uint64_t position) {
    return *layout::lane_entry(lies(), kGeometry, kOwn - 1, position);
  }
  layout::LaneAck& ack() { return own->acks[kProducer - 1]; }
  void clear() {
    std::memset(producer.writable(), 0, kGeometry.section_bytes);
    std::memset(static_cast<void*>(own), 0, sizeof(Section));
  }
};

// What the contract says that the reader must answer, from what is in memory.
struct Expected {
  Memory& m;
  Sessions sessions;
  std::uint64_t session = m.lane().generation.load();
  std::uint64_t tail = m.lane().head.load();
  bool broken = false;

  std::uint64_t shown() const { return m.lane().generation.load(); }
  bool new_session() const { return shown() != session && shown() != 0; }
  std::uint64_t unread() const {
    return shown() == session && session != 0 && !broken ? m.lane().head.load() - tail : 0;
  }
  bool has_news() const { return new_session() || unread() != 0; }
  void follow(std::uint64_t next) {
    if (next == session || next == 0) return;
    session = next;
    tail = 0;
    broken = false;
    followed.reached();
  }
  bool sound(std::uint64_t position) const {
    const std::uint64_t offset = m.entry(position).offset.load();
    return m.entry(position).length.load() == wire::kMessageBytes &&
           offset >= kGeometry.buffers_offset(0) && offset < kGeometry.buffers_end() &&
           kGeometry.buffers_end() - offset >= wire::kMessageBytes;
  }
  ReadResult read() {
    if (sessions == Sessions::kFollow) follow(shown());
    const std::uint64_t count = unread();
    if (count == 0) return ReadResult::kEmpty;
    if (count > kEntries) {
      broken = true;
      return ReadResult::kBadLane;
    }
    return sound(tail++) ? ReadResult::kMessage : ReadResult::kBadEntry;
  }
};

void check_acknowledged(Memory& m, const Expected& expected) {
  require(m.ack().generation.load() == expected.session, "the followed session is acknowledged");
  require(m.ack().tail.load() == expected.tail, "what was read is acknowledged");
}

void read_one(Memory& m, QueueReader& reader, Expected& expected) {
  const auto out = std::make_unique<wire::MessageBytes>();
  const ReadResult wanted = expected.read();
  require(reader.read(out.get()) == wanted, "read() answers what the lane says");
  require(reader.producer_session() == expected.session, "one session");
  if (wanted == ReadResult::kBadEntry) bad_entry.reached();
  if (wanted == ReadResult::kBadLane) bad_lane.reached();
  if (wanted != ReadResult::kMessage) return;
  read_message.reached();
  const std::uint64_t offset = m.entry(expected.tail - 1).offset.load();
  require(std::memcmp(out->data(), m.producer.writable() + offset, out->size()) == 0, "a copy");
}

// One thing that the producer, or whoever writes in its place, does.
void lie(Memory& m, Input& in, std::uint32_t what, const Expected& expected) {
  switch (what) {
    case 0:
      m.lane().generation.store(in.number());
      break;
    case 1:
      m.lane().head.store(in.number());
      break;
    case 2:
      m.lane().head.store(expected.tail + in.below(kEntries + 3));
      break;
    case 3: {
      layout::LaneEntry& entry = m.entry(in.take<std::uint8_t>());
      entry.offset.store(in.number());
      entry.length.store(static_cast<std::uint32_t>(in.number()));
      break;
    }
    case 4: {  // near the ends of the buffers
      layout::LaneEntry& entry = m.entry(in.take<std::uint8_t>());
      const std::uint64_t end = in.flip() ? kGeometry.buffers_end() : kGeometry.buffers_offset(0);
      entry.offset.store(end - 512 + 2 * std::uint64_t{in.take<std::uint16_t>()} % 1024);
      entry.length.store(wire::kMessageBytes);
      break;
    }
    default: {  // a sound message behind head, and head with it
      const std::uint64_t head = m.lane().head.load();
      layout::LaneEntry& entry = m.entry(head);
      entry.offset.store(kGeometry.buffers_offset(in.below(2)) + 256 * (head % kEntries));
      entry.length.store(wire::kMessageBytes);
      m.producer.writable()[entry.offset.load() + in.take<std::uint8_t>()] =
          in.take<std::uint8_t>();
      m.lane().head.store(head + 1);
    }
  }
}

void act(Memory& m, Input& in, std::uint32_t what, QueueReader& reader, Expected& expected) {
  switch (what) {
    case 0:
      require(reader.has_news() == expected.has_news(), "news is what read() would read");
      break;
    case 1:
      require(reader.new_session() == expected.new_session(), "a new session is told");
      break;
    case 2: {
      const std::uint64_t session = in.flip() ? in.number() : expected.shown();
      reader.follow(session);
      expected.follow(session);
      break;
    }
    case 3:
      m.ack().generation.store(in.number());
      m.ack().tail.store(in.number());
      reader.mend();
      break;
    default:
      read_one(m, reader, expected);
  }
  check_acknowledged(m, expected);
}

}  // namespace

std::vector<Bytes> seeds() {
  Bytes round{0, 0, 1,
              4};  // followed by itself: session 1, then more messages than the ring has entries
  for (std::uint8_t i = 0; i < 20; ++i) {
    round.insert(round.end(), {5, static_cast<std::uint8_t>(i & 1), i, i, 10, 6, 10});
  }
  return {
      round,
      {1, 0, 1, 7, 8, 1, 5, 0, 3, 9, 10, 6, 10, 0, 2, 7, 8, 0, 10},
      {0, 0, 1, 4, 2, 9, 10, 6, 10, 0, 2, 10, 5, 0, 0, 0, 10},
      {0, 0, 1, 3, 0, 0x84, 1, 0x80, 0, 1, 2, 1, 10, 9, 3, 4, 10},
      {1, 0, 1, 4, 0, 1, 0, 1, 2, 1, 10, 6, 4, 0, 0, 0, 0, 2, 1, 10},
  };
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  static Memory& m = *new Memory;
  m.clear();
  Input in(data, size);
  const Sessions sessions = in.flip() ? Sessions::kAsk : Sessions::kFollow;
  const auto* view = reinterpret_cast<const Section*>(m.producer.view());
  std::optional<QueueReader> reader;
  std::optional<Expected> expected;
  for (int i = 0; i < 256 && !in.empty(); ++i) {
    const std::uint32_t what = in.below(12);
    if (!reader || what == 11) {  // at first, and a reader that starts again
      if (what < 6) m.lane().generation.store(in.number());
      reader.emplace(m.own, kOwn, view, kProducer, kGeometry, sessions);
      expected.emplace(Expected{m, sessions});
      check_acknowledged(m, *expected);
    } else if (what < 6) {
      lie(m, in, what, *expected);
    } else {
      act(m, in, what - 6, *reader, *expected);
    }
  }
  // Nothing else of ours was written.
  m.ack().generation.store(0);
  m.ack().tail.store(0);
  static const Bytes kZeros(sizeof(Section));
  require(std::memcmp(static_cast<void*>(m.own), kZeros.data(), kZeros.size()) == 0,
          "only the acknowledgement is written");
  return 0;
}
