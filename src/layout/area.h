// The shared-memory ABI of an area: what one end of a connection writes and the other end reads.
//
// An area is control and segments. It is a place in an arena (layout/arena.h), where the controls of all places come
// first and their segments behind them; or it is whole: one sealed memory object of kAreaBytes, or the beginning of a
// range of a window's device (layout/device.h), where the segments begin at kSegmentsOffset.
//
// Its owner maps it read-write, its peer read-only; every cache line has one writer: the
// owner, or, for FateLine, the owner's driver. It holds the control segment and the
// segments of the owner's outgoing stream, and the owner's half (tail, begin) of the incoming one.
//
//   offset      size  what
//   0            128  AreaHeader      constant while the area belongs to a connection
//   128          128  HotLine         head, waiting flags, the latest small message inline
//   256          128  TailLine        how far the owner has read the peer's stream
//   384          256  begin[64]       per segment of the *peer's* stream: begin of unread data
//   640          128  SwitchLine      giving the rings up for plain bytes
//   768          128  FateLine        how the other end ended; on devices only
//   1024        2048  SegmentControl[64]
//   3072              the end of a place's control; of a whole area 1024 bytes follow that nobody uses
//   4096     4194304  of a whole area: 64 segments of 65536 bytes
//
// A place, or a range of a device, is given to one connection after another: `generation` in header and hot line says to
// which. It is 0 while the area changes hands (ring::init_area, ring::still_current).
//
// No behaviour lives here; sizes and offsets are asserted, and a golden-bytes test pins them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "wire/version.h"

namespace shunt::layout {

inline constexpr std::uint32_t kAreaMagic = 0x31544853;  // "SHT1" in memory

inline constexpr std::uint32_t kSegmentBytes = 64 * 1024;
inline constexpr std::uint32_t kSegmentCount = 64;
inline constexpr std::uint32_t kSegmentsOffset = 4096;  // of a whole area
inline constexpr std::uint64_t kStreamBytes = std::uint64_t{kSegmentBytes} * kSegmentCount;
inline constexpr std::uint64_t kAreaBytes = kSegmentsOffset + kStreamBytes;
inline constexpr std::uint32_t kInlineBytes = 88;

// Flags in HotLine::flags. Each is set once by the owner and never cleared.
inline constexpr std::uint16_t kFlagFin = 1;     // no bytes follow `head`
inline constexpr std::uint16_t kFlagReset = 2;   // the owner aborted (ECONNRESET for the peer)
inline constexpr std::uint16_t kFlagClosed = 4;  // the owner will not read any more
inline constexpr std::uint16_t kFlagPlain = 8;   // the owner uses its areas no more: see SwitchLine
inline constexpr std::uint16_t kKnownFlags = kFlagFin | kFlagReset | kFlagClosed | kFlagPlain;

// SwitchLine::plain.
inline constexpr std::uint32_t kCarrying = 0;
inline constexpr std::uint32_t kSwitching = 1;
inline constexpr std::uint32_t kPlain = 2;
inline constexpr std::uint32_t kLeaving = 3;  // the last descriptor of the owner is being closed

// FateLine::fate.
inline constexpr std::uint32_t kFateOpen = 0;  // a bell that ends now is a reset
inline constexpr std::uint32_t kFatePeerClosed =
    1;  // nobody holds the other end any more: an end as usual
inline constexpr std::uint32_t kFateReset = 2;  // the other partition is gone, or it told lies

struct AreaHeader {
  std::uint32_t magic;
  std::uint16_t version;  // wire::kLayoutVersion
  std::uint16_t header_bytes;
  std::uint32_t generation;  // drawn at random for each connection; 0: changing hands
  std::uint32_t segment_bytes;
  std::uint32_t segment_count;
  std::uint32_t segments_offset;  // 0 in a place: the arena says where they are
  std::uint64_t area_bytes;       // 0 in a place
  // In a place of the accepting side's arena: the generation of the area that this one answers. Set last, and only
  // where that says all that CONNECTED would (wire/message.h); else 0.
  std::uint32_t answers;
  std::uint8_t reserved[92];
};

// One line pair: a small message costs its reader a single transfer.
struct alignas(128) HotLine {
  std::atomic<std::uint64_t> head;          // bytes ever written to the owner's stream
  std::atomic<std::uint64_t> tail_echo;     // TailLine::tail as of the latest publication of head
  std::atomic<std::uint32_t> generation;    // equal to AreaHeader::generation
  std::atomic<std::uint32_t> recv_waiting;  // odd: the owner sleeps until head of the peer moves
  std::atomic<std::uint32_t> send_waiting;  // odd: the owner sleeps until tail of the peer moves
  std::atomic<std::uint16_t> flags;
  std::atomic<std::uint16_t> inline_bytes;  // 0: nothing inline
  std::atomic<std::uint64_t> inline_start;  // stream position of the first inline byte
  std::atomic<std::uint64_t> inline_data[kInlineBytes / 8];
};

struct alignas(128) TailLine {
  std::atomic<std::uint64_t> tail;     // bytes ever read from the peer's stream
  std::atomic<std::uint32_t> segment;  // the peer's segment that holds the earliest unread byte
};

// How an end gives up its rings and carries on with plain bytes over the bell: sockets/downgrade/downgrade.h.
struct alignas(128) SwitchLine {
  std::atomic<std::uint32_t> plain;    // kCarrying, kSwitching, kPlain, kLeaving
  std::atomic<std::uint32_t> ringing;  // threads of the owner that are about to ring
};

// How the connection's other end ended, as the owner's *driver* tells it before it ends the owner's bell. The
// one line that the owner's driver writes and not the owner; zero in areas that are no range of a device.
struct alignas(128) FateLine {
  std::atomic<std::uint32_t> fate;  // kFateOpen, kFatePeerClosed, kFateReset
};

// Control of one segment of the owner's stream. `begin` is the reader's to move, so it lives in the
// reader's area (begin[]); here it is where the data began when the segment was entered.
struct SegmentControl {
  std::atomic<std::uint32_t> begin;
  std::atomic<std::uint32_t> end;     // offset behind the last byte written
  std::atomic<std::uint32_t> length;  // bytes in the segment: end - begin
  std::atomic<std::uint32_t> next;    // index of the next segment in the circular buffer
  std::atomic<std::uint32_t> last;    // 1: a write ended in this segment
  std::uint32_t reserved;
  std::atomic<std::uint64_t> base;  // stream position of offset 0 in the current lap
};

struct Area {
  AreaHeader header;
  HotLine hot;
  TailLine tail;
  std::atomic<std::uint32_t> begin[kSegmentCount];
  SwitchLine switch_line;
  FateLine fate_line;
  std::uint8_t pad0[1024 - 384 - 4 * kSegmentCount - sizeof(SwitchLine) - sizeof(FateLine)];
  SegmentControl segment[kSegmentCount];
};

// Of a whole area.
inline std::uint8_t* segment_data(Area* area, std::uint32_t index) {
  return reinterpret_cast<std::uint8_t*>(area) + kSegmentsOffset +
         std::size_t{index} * kSegmentBytes;
}
inline const std::uint8_t* segment_data(const Area* area, std::uint32_t index) {
  return reinterpret_cast<const std::uint8_t*>(area) + kSegmentsOffset +
         std::size_t{index} * kSegmentBytes;
}

static_assert(sizeof(AreaHeader) == 128);
static_assert(sizeof(HotLine) == 128);
static_assert(offsetof(HotLine, inline_data) == 40);
static_assert(sizeof(TailLine) == 128);
static_assert(sizeof(SegmentControl) == 32);
static_assert(offsetof(Area, hot) == 128);
static_assert(offsetof(Area, tail) == 256);
static_assert(offsetof(Area, begin) == 384);
static_assert(sizeof(SwitchLine) == 128);
static_assert(offsetof(Area, switch_line) == 640);
static_assert(sizeof(FateLine) == 128);
static_assert(offsetof(Area, fate_line) == 768);
static_assert(offsetof(Area, segment) == 1024);
static_assert(sizeof(Area) == 3072 && sizeof(Area) <= kSegmentsOffset);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(std::atomic<std::uint16_t>::is_always_lock_free);

}  // namespace shunt::layout
