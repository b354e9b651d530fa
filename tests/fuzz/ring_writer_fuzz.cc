// ring_writer: the peer's tail line, as the writer of our stream sees it (ring/writer.h)
//
// Untrusted: tail, its echo and recv_waiting in the peer's area. Asserted: the writer looks at nothing else of it;
// tail moves forward only, and not beyond what was published; every call ends with kOk or kCorrupt; whatever the peer
// says, a byte that it has not said to have read is not overwritten, and links and positions in our area fit them.
#include <algorithm>
#include <cstring>
#include <memory>

#include "fuzz/harness.h"
#include "fuzz/two_views.h"
#include "ring/writer.h"

namespace shunt::fuzz {
namespace {

using layout::Area;
using layout::kSegmentBytes;
using layout::kSegmentCount;
using layout::kStreamBytes;
using ring::Status;
using ring::Writer;

Mark corrupt("lie found out");
Mark grown("three segments");
Mark shrunk("segments given back");
Mark full("no room");

// The byte at each position of the stream: a period that no segment is a multiple of.
constexpr std::uint64_t kPeriod = 65521;
constexpr std::size_t kAppendBytes = 2 * kPeriod;

struct Stream {
  Bytes bytes = Bytes(kPeriod + kAppendBytes);
  Stream() {
    std::uint64_t word = 1;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      word = word * 6364136223846793005 + 1442695040888963407;
      bytes[i] = i < kPeriod ? static_cast<std::uint8_t>(word >> 56) : bytes[i - kPeriod];
    }
  }
  const std::uint8_t* at(std::uint64_t position) const { return bytes.data() + position % kPeriod; }
};

struct End {
  TwoViews peer{layout::kSegmentsOffset};
  Area* lies = reinterpret_cast<Area*>(peer.writable());
  Bytes memory = Bytes(layout::kAreaBytes + 128);
  Area* own;
  ring::WriterState state{};
  Stream stream;

  End() {
    void* at = memory.data();
    std::size_t room = memory.size();
    own = static_cast<Area*>(std::align(128, layout::kAreaBytes, at, room));
    peer.show(offsetof(Area, tail.tail), sizeof(std::uint64_t));
    peer.show(offsetof(Area, hot.tail_echo), sizeof(std::uint64_t));
    peer.show(offsetof(Area, hot.recv_waiting), sizeof(std::uint32_t));
  }
  Writer writer() { return {own, reinterpret_cast<const Area*>(peer.view()), &state}; }
  void clear(std::uint64_t limit) {
    std::memset(peer.writable(), 0, sizeof(Area));
    state = {};
    ring::init_area(own, 1);
    writer().set_limit(limit);
  }

  void check(const ring::WriterState& before) {
    require(state.tail >= before.tail && state.tail <= state.published, "tail is possible");
    require(state.published <= state.head && state.head - state.tail <= kStreamBytes, "so is head");
    require(own->hot.head.load() == state.published, "head is told");
    require(state.segment < kSegmentCount && state.offset <= kSegmentBytes, "we are in a segment");
    require(own->hot.send_waiting.load() == state.wait_epoch, "our epoch is told");
    if (state.members == 0) return;
    require((state.members >> state.segment & 1) != 0, "the segment is one of the buffer's");
    require(own->segment[state.segment].end.load() == state.offset, "its end is true");
    if (writer().segments() > 2) grown.reached();
    check_ring();
  }
  // The links lead once round all members, and memory says what our private copy says.
  void check_ring() {
    std::uint64_t seen = 0;
    std::uint32_t at = state.segment;
    do {
      require(at < kSegmentCount && (seen >> at & 1) == 0, "links go round");
      seen |= std::uint64_t{1} << at;
      require(own->segment[at].next.load() == state.next[at], "links are true");
      require(own->segment[at].base.load() == state.base[at], "bases are true");
      at = state.next[at];
    } while (at != state.segment);
    require(seen == state.members, "links lead to all of the buffer's segments");
    require((state.members & state.released) == 0, "what was given back is not in use");
  }
  // Whatever the peer said: what it has not read is still there.
  void check_in_flight() {
    for (std::uint64_t position = state.tail; position < state.head;) {
      const std::uint8_t* at = nullptr;
      const std::size_t n = writer().written(position, &at);
      require(n > 0 && n <= state.head - position, "a byte in flight has a place");
      require(at >= layout::segment_data(own, 0) &&
                  at + n <= layout::segment_data(own, 0) + kStreamBytes,
              "the place is in a segment");
      require(std::memcmp(at, stream.at(position), n) == 0, "bytes in flight stay");
      position += n;
    }
  }

  bool believable(std::uint64_t tail) const {
    return tail >= state.tail && tail <= state.published;
  }
  void judge(Status status, const ring::WriterState& before) {
    if (status == Status::kOk) return;
    corrupt.reached();
    require(!believable(lies->tail.tail.load()), "only a lie is corrupt");
    require(state.tail == before.tail && state.head == before.head, "a lie is not taken over");
  }
  void refresh() {
    const ring::WriterState before = state;
    const bool true_tail = believable(lies->tail.tail.load());
    const Status status = writer().refresh();
    judge(status, before);
    require(true_tail == (status == Status::kOk), "a lie is found out");
  }
  std::size_t append(std::size_t size) {
    const ring::WriterState before = state;
    Status status = Status::kOk;
    const std::size_t n = writer().append(stream.at(state.head), size, &status);
    judge(status, before);
    require(n <= size && state.head == before.head + n, "what was taken is in flight");
    require(state.head - before.tail <= before.limit || n == 0 || state.tail != before.tail,
            "within the limit");
    if (n == 0 && size != 0 && status == Status::kOk) full.reached();
    return n;
  }
};

void lie(End& end, Input& in, std::uint32_t what) {
  const ring::WriterState& s = end.state;
  switch (what) {
    case 0:
      end.lies->tail.tail.store(in.number());
      break;
    case 1:
      end.lies->tail.tail.store(s.published - in.number());
      break;
    case 2:  // an honest reader
      end.lies->tail.tail.store(std::min(s.tail + in.number(), s.published));
      break;
    case 3:
      end.lies->hot.tail_echo.store(s.published - in.number());
      break;
    default:
      end.lies->hot.recv_waiting.store(in.take<std::uint32_t>());
  }
}

void act(End& end, Input& in, std::uint32_t what) {
  const ring::WriterState before = end.state;
  ring::Writer writer = end.writer();
  switch (what) {
    case 0:
      end.append(in.number() % (kAppendBytes + 1));
      break;
    case 1:
      writer.publish();
      break;
    case 2:
      end.refresh();
      break;
    case 3:
      writer.take_echo();
      break;
    case 4:
      writer.must_ring();
      require(!writer.must_ring(), "one ring for each epoch");
      break;
    case 5:
      writer.shrink();
      if (end.state.released != before.released) shrunk.reached();
      break;
    case 6:
      writer.set_limit(in.number());
      break;
    case 7:
      writer.begin_wait();
      break;
    case 8:
      writer.end_wait();
      break;
    case 9:
      if (writer.writable() && end.believable(end.lies->tail.tail.load())) {
        require(end.append(1) == 1, "whoever is told of room finds some");
      }
      break;
    default:
      require((writer.take_released() & end.state.members) == 0,
              "what is in use is not given back");
  }
  end.check(before);
}

}  // namespace

std::vector<Bytes> seeds() {
  Bytes laps{0x86, 64, 128};  // a limit of all segments; a segment at a time, the reader one behind
  for (int i = 0; i < 70; ++i) {
    laps.insert(laps.end(), {5, 0x86, 2, 0, 5, 0x81, 0xff, 0xff, 0, 0, 6, 1, 0x86, 1, 0, 7});
  }
  Bytes fills{0};  // the least limit, until there is no room; then all is read
  for (int i = 0; i < 6; ++i) fills.insert(fills.end(), {5, 0x86, 1, 0, 6});
  fills.insert(fills.end(), {14, 12, 2, 0x86, 9, 0, 7, 14, 10, 15});
  return {
      laps,
      fills,
      {0, 5, 80, 6, 0, 90, 7, 1, 0, 8, 3, 5, 8, 4, 1, 0, 0, 0, 9, 13},
      {0x86, 9, 128, 5, 0x86, 2, 0, 5, 0x86, 2, 0, 5, 0x86, 2, 0, 6, 1, 0, 7, 10, 15},
  };
}

}  // namespace shunt::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  static End& end = *new End;
  Input in(data, size);
  end.clear(in.number());
  for (int i = 0; i < 256 && !in.empty(); ++i) {
    const std::uint32_t what = in.below(16);
    if (what < 5) {
      lie(end, in, what);
    } else {
      act(end, in, what - 5);
    }
    if (what == 15 || i % 64 == 63) end.check_in_flight();
  }
  end.check_in_flight();
  return 0;
}
