// ring_reader: a stream in the peer's area, which the peer may write at any time (ring/reader.h)
//
// Untrusted: the peer's area. Asserted: the reader looks at nothing of it but the words of its stream, and writes
// nothing of ours but tail, begin and recv_waiting; available() is at most the stream's size; every call ends with
// kOk or kCorrupt, and with positions of ours that are possible; bytes are those of the place where our position is;
// nothing is taken over from a lie that was found out; a peer that never lied is never called corrupt.
#include <algorithm>
#include <cstring>

#include "fuzz/harness.h"
#include "fuzz/two_views.h"
#include "ring/reader.h"
#include "ring/writer.h"

namespace shunt::fuzz {
namespace {

using layout::Area;
using layout::kSegmentBytes;
using layout::kSegmentCount;
using layout::kStreamBytes;
using ring::Reader;
using ring::Status;

Mark corrupt("lie found out");
Mark honest_read("honest bytes read");
Mark lap("honest stream once round");
Mark inlined("bytes read from the hot line");

constexpr std::uint32_t kGeneration = 0xaaaa5555;
constexpr std::size_t kOutBytes = 200 * 1024;

// The peer: an honest writer's steps (grow), and lies.
struct Peer {
  TwoViews memory{layout::kAreaBytes};
  Area* area = reinterpret_cast<Area*>(memory.writable());
  std::uint64_t head = 0;
  std::uint32_t segment = 0;
  std::uint32_t offset = 0;
  bool honest = true;

  Peer() {
    memory.show(offsetof(Area, header.generation), sizeof(std::uint32_t));
    memory.show(offsetof(Area, hot), sizeof(layout::HotLine));
    memory.show(offsetof(Area, segment), sizeof area->segment);
    memory.show(layout::kSegmentsOffset, kStreamBytes);
    std::uint64_t word = 1;
    for (std::size_t at = layout::kSegmentsOffset; at < layout::kAreaBytes; at += sizeof word) {
      word = word * 6364136223846793005 + 1442695040888963407;
      std::memcpy(memory.writable() + at, &word, sizeof word);
    }
  }
  void clear() {
    ring::init_area(area, kGeneration);
    head = 0;
    segment = 0;
    offset = 0;
    honest = true;
  }
  // As ring::Writer does it, but for the bytes: those in the segments are good enough.
  void grow(std::uint64_t size, std::uint64_t tail) {
    const std::uint64_t room = kStreamBytes - 2 * kSegmentBytes;
    size = std::min(size, room - std::min(room, head - tail));
    while (size > 0) {
      if (offset == kSegmentBytes) {
        const std::uint32_t next = (segment + 1) % kSegmentCount;
        area->segment[segment].next.store(next);
        area->segment[next].base.store(head);
        segment = next;
        offset = 0;
        if (next == 0 && honest) lap.reached();
      }
      const auto step =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(size, kSegmentBytes - offset));
      offset += step;
      head += step;
      size -= step;
      area->segment[segment].end.store(offset);
      area->segment[segment].length.store(offset);
    }
    area->hot.head.store(head);
  }
  void lie(Input& in, std::uint64_t tail) {
    honest = false;
    layout::HotLine& hot = area->hot;
    layout::SegmentControl& control = area->segment[in.below(kSegmentCount)];
    switch (in.below(10)) {
      case 0:
        hot.head.store(in.number());
        break;
      case 1:
        hot.head.store(tail + in.number());
        break;
      case 2:
        control.next.store(static_cast<std::uint32_t>(in.number()));
        break;
      case 3:
        control.end.store(static_cast<std::uint32_t>(in.number()));
        break;
      case 4:
        control.length.store(static_cast<std::uint32_t>(in.number()));
        break;
      case 5:
        control.base.store(in.number());
        break;
      case 6:
        hot.generation.store(kGeneration + in.below(2));
        break;
      case 7:
        area->header.generation = kGeneration + in.below(2);
        break;
      default:
        hot.inline_start.store(tail + in.number());
        hot.inline_bytes.store(static_cast<std::uint16_t>(in.number()));
        hot.inline_data[in.below(layout::kInlineBytes / 8)].store(in.number());
    }
  }
};

struct End {
  Peer& peer;
  alignas(128) Area own{};
  ring::ReaderState state{};
  Reader reader{&own, reinterpret_cast<const Area*>(peer.memory.view()), &state};
  Bytes out = Bytes(kOutBytes);

  explicit End(Peer& p) : peer(p) { state.generation = kGeneration; }

  void check() {
    require(state.segment < kSegmentCount && state.offset <= kSegmentBytes, "we are in a segment");
    require(state.head >= state.tail && reader.available() <= kStreamBytes, "head is possible");
    require(own.tail.tail.load() == state.tail, "our tail line is true");
    require(own.tail.segment.load() == state.segment, "our tail line names the segment");
    require(own.begin[state.segment].load() == state.offset, "begin is true");
    require(own.hot.recv_waiting.load() == state.wait_epoch, "our epoch is told");
    require(reader.waiting() == ((state.wait_epoch & 1) != 0), "odd means asleep");
  }

  // Honest peers are never called corrupt; others must not have moved us.
  void judge(Status status, const ring::ReaderState& before) {
    if (status == Status::kOk) return;
    corrupt.reached();
    require(!peer.honest, "a peer that never lied is not corrupt");
    require(state.tail >= before.tail && state.head == before.head, "a lie is not taken over");
  }

  void refresh() {
    const ring::ReaderState before = state;
    const Status status = reader.refresh();
    judge(status, before);
    if (status != Status::kOk) {
      require(state.tail == before.tail && state.flags == before.flags, "a lie moves nothing");
      return;
    }
    require(state.head == peer.area->hot.head.load() && state.head >= before.head, "head moves on");
  }

  // Where our position + skip is, if links were true that the reader has found true.
  const std::uint8_t* place(const ring::ReaderState& s, std::uint64_t skip) const {
    std::uint32_t at = s.segment;
    for (std::uint64_t links = (s.offset + skip) / kSegmentBytes; links > 0; --links) {
      at = peer.area->segment[at].next.load();
      require(at < kSegmentCount, "a link is checked before it is followed");
    }
    return layout::segment_data(peer.area, at) + (s.offset + skip) % kSegmentBytes;
  }
  bool from_hot_line(std::uint64_t tail, const std::uint8_t* bytes, std::size_t size) const {
    const layout::HotLine& hot = peer.area->hot;
    if (hot.inline_start.load() != tail || hot.inline_bytes.load() != size) return false;
    if (size > layout::kInlineBytes) return false;
    const bool same = std::memcmp(bytes, static_cast<const void*>(hot.inline_data), size) == 0;
    if (same) inlined.reached();
    return same;
  }

  void copy(std::uint64_t skip, std::size_t size, bool count_only) {
    const ring::ReaderState before = state;
    std::uint8_t* to = out.data() + out.size() - size;  // what is too much leaves the allocation
    Status status = Status::kOk;
    const std::size_t n = reader.copy(skip, count_only ? nullptr : to, size, &status);
    judge(status, before);
    require(std::memcmp(&before, &state, sizeof state) == 0, "a copy moves nothing");
    if (status != Status::kOk) return require(n == 0, "nothing is copied of a lie");
    const std::uint64_t behind = skip < reader.available() ? reader.available() - skip : 0;
    require(n <= size && n <= behind, "at most what is there");
    require(n > 0 || size == 0 || behind == 0, "what is there is copied");
    if (n == 0 || count_only) return;
    if (skip == 0 && from_hot_line(state.tail, to, n)) return;
    require(std::memcmp(to, place(state, skip), n) == 0, "the bytes at our position");
  }

  void consume(std::uint64_t size) {
    const ring::ReaderState before = state;
    const Status status = reader.consume(size);
    judge(status, before);
    require(state.tail == before.tail + (status == Status::kOk ? size : 0), "all or nothing");
  }

  void read(std::size_t size) {
    const ring::ReaderState before = state;
    Status status = Status::kOk;
    const std::size_t n = reader.read(out.data() + out.size() - size, size, &status);
    judge(status, before);
    require(n <= size && state.tail == before.tail + n, "what was read is consumed");
    if (!peer.honest || n == 0) return;
    honest_read.reached();
    require(n == std::min<std::uint64_t>(size, before.head - before.tail), "all that is there");
  }
};

void act(End& end, Input& in, std::uint32_t what) {
  switch (what) {
    case 0:
      end.refresh();
      break;
    case 1:
      end.copy(in.number(), in.number() % (kOutBytes + 1), in.flip());
      break;
    case 2:
      end.consume(std::min(in.number(), end.reader.available()));
      break;
    case 3:
      end.read(in.number() % (kOutBytes + 1));
      break;
    case 4:
      end.peer.area->hot.send_waiting.store(in.take<std::uint32_t>());
      end.reader.must_ring_for_space();
      end.reader.must_ring();
      require(!end.reader.must_ring(), "one ring for each epoch");
      break;
    case 5:
      end.reader.begin_wait();
      break;
    case 6:
      end.reader.end_wait();
      break;
    default:
      end.peer.area->hot.flags.fetch_or(in.take<std::uint16_t>());
  }
  end.check();
}

}  // namespace

std::vector<Bytes> seeds() {
  Bytes laps{};  // 3 segments written, some read, over and over
  for (int i = 0; i < 70; ++i)
    laps.insert(laps.end(), {8, 0x86, 3, 0, 0, 3, 0x81, 0xff, 0xff, 2, 0});
  return {
      laps,
      {8, 80, 0, 3, 100, 8, 0x86, 5, 0, 0, 1, 0, 9, 1, 2, 0x86, 2, 128, 3, 0x81, 0, 0, 2, 0},
      {8, 80, 9, 0, 8, 0, 80, 0, 9, 0, 1, 0, 80, 0, 3, 100, 4, 1, 0, 0, 0, 5, 6},
      {8, 0x86, 9, 128, 0, 9, 2, 2, 1, 2, 0x86, 9, 128, 1, 0x86, 4, 128, 9, 0},
      {8, 0x86, 9, 128, 0, 9, 0, 6, 1, 0, 3, 9, 7, 4, 0},
  };
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  static Peer& peer = *new Peer;
  static End& end = *new End(peer);
  peer.clear();
  std::memset(static_cast<void*>(&end.own), 0, sizeof end.own);
  end.state = {};
  end.state.generation = kGeneration;
  Input in(data, size);
  for (int i = 0; i < 256 && !in.empty(); ++i) {
    const std::uint32_t what = in.below(10);
    if (what == 8) {
      peer.grow(in.number() % (kOutBytes + 1), end.state.tail);
    } else if (what == 9) {
      peer.lie(in, end.state.tail);
    } else {
      act(end, in, what);
    }
  }
  // Nothing else of ours was written.
  end.own.tail.tail.store(0);
  end.own.tail.segment.store(0);
  end.own.hot.recv_waiting.store(0);
  for (auto& begin : end.own.begin) begin.store(0);
  static const Bytes kZeros(sizeof(Area));
  require(std::memcmp(static_cast<void*>(&end.own), kZeros.data(), kZeros.size()) == 0,
          "only tail, begin and recv_waiting are written");
  return 0;
}
