#include "conn/state.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace shunt::conn {
namespace {

constexpr std::uint32_t kIn = POLLIN | POLLRDNORM;
constexpr std::uint32_t kOut = POLLOUT | POLLWRNORM;

// By a thread that is alone: nothing happens between its look for data and the answer.
Answer read(State& s, bool data_available) { return on_read(s, data_available, read_end(s)); }

TEST(State, Undisturbed) {
  State s;
  EXPECT_EQ(read(s, true).verdict, Verdict::kGo);
  EXPECT_EQ(read(s, false).verdict, Verdict::kBlock);
  EXPECT_EQ(on_write(s).verdict, Verdict::kGo);
  EXPECT_EQ(poll_mask(s, false, false), 0u);
  EXPECT_EQ(poll_mask(s, true, true), kIn | kOut);
}

// Another thread of the program, one that writes, hears of the end while this one has looked for data and has not
// answered yet. Between its look and the end the peer may have written.
TEST(State, AnEndThatCameAfterTheLookIsNotTheAnswer) {
  const auto finish = [](State& s) { on_peer_finished(s); };
  const auto close = [](State& s) { on_peer_gone(s, false); };
  const auto reset = [](State& s) { on_reset(s); };
  const auto shut = [](State& s) { on_shutdown(s, SHUT_RD); };
  for (void (*end)(State&) : {+finish, +close, +reset, +shut}) {
    State s;
    const ReadEnd known = read_end(s);
    end(s);
    const int error = s.pending_error;
    EXPECT_EQ(on_read(s, false, known).verdict, Verdict::kLookAgain);
    EXPECT_EQ(error, s.pending_error) << "still to be reported";
    EXPECT_EQ(on_read(s, true, known).verdict, Verdict::kGo);
    EXPECT_NE(on_read(s, false, read_end(s)).verdict, Verdict::kLookAgain);
  }
}

TEST(State, EndOfFileComesAfterTheData) {
  State s;
  on_peer_finished(s);
  EXPECT_EQ(read(s, true).verdict, Verdict::kGo);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile) << "for ever";
  EXPECT_EQ(on_write(s).verdict, Verdict::kGo) << "half closed";
  EXPECT_EQ(poll_mask(s, false, true), kIn | kOut | POLLRDHUP);
}

TEST(State, PeerGoneHavingReadEverything) {
  State s;
  on_peer_gone(s, false);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile);
  // The write that TCP answers with RST still succeeds; the next one does not.
  EXPECT_EQ(on_write(s).verdict, Verdict::kDiscard);
  const Answer second = on_write(s);
  EXPECT_EQ(second.verdict, Verdict::kError);
  EXPECT_EQ(second.error, EPIPE);
  EXPECT_EQ(on_write(s).error, EPIPE) << "and for ever";
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile);
}

TEST(State, PeerGoneLeavingBytesUnread) {
  State s;
  on_peer_gone(s, true);
  EXPECT_EQ(poll_mask(s, false, false) & (POLLERR | POLLHUP | POLLIN | POLLOUT),
            static_cast<std::uint32_t>(POLLERR | POLLHUP | POLLIN | POLLOUT));
  EXPECT_EQ(read(s, true).verdict, Verdict::kGo) << "what came before is still read";
  EXPECT_EQ(read(s, false).error, ECONNRESET);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile) << "the error is reported once";
  EXPECT_EQ(on_write(s).error, EPIPE);
}

TEST(State, ResetAfterTheEndIsEpipe) {
  State s;
  on_peer_finished(s);
  on_reset(s);
  EXPECT_EQ(on_write(s).error, EPIPE);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile) << "the end comes before the error";
}

TEST(State, AResetIsNotUndoneByTheEnd) {
  State s;
  on_reset(s);
  on_peer_gone(s, false);
  EXPECT_EQ(read(s, false).error, ECONNRESET);
}

TEST(State, AnEndBehindLostBytesIsNone) {
  State s;
  on_peer_finished(s);
  on_lost(s);
  EXPECT_EQ(read(s, false).error, ECONNRESET);
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile);
  EXPECT_EQ(on_write(s).error, EPIPE);
  State other;
  on_lost(other);
  EXPECT_EQ(take_error(other), ECONNRESET);
}

TEST(State, ErrorIsTakenOnce) {
  State s;
  on_reset(s);
  on_reset(s);
  EXPECT_EQ(take_error(s), ECONNRESET);
  EXPECT_EQ(take_error(s), 0);
  EXPECT_EQ(poll_mask(s, false, false) & POLLERR, 0u);
}

TEST(State, ShutdownOfWriting) {
  State s;
  EXPECT_EQ(on_shutdown(s, SHUT_WR), 0);
  EXPECT_EQ(on_write(s).error, EPIPE);
  EXPECT_EQ(read(s, false).verdict, Verdict::kBlock);
  EXPECT_EQ(poll_mask(s, false, false), kOut) << "writing would not block: it fails";
  on_peer_finished(s);
  EXPECT_NE(poll_mask(s, false, false) & POLLHUP, 0u) << "closed both ways";
}

TEST(State, ShutdownOfReading) {
  State s;
  EXPECT_EQ(on_shutdown(s, SHUT_RD), 0);
  EXPECT_EQ(read(s, true).verdict, Verdict::kGo) << "Linux delivers what is queued";
  EXPECT_EQ(read(s, false).verdict, Verdict::kEndOfFile);
  EXPECT_EQ(on_write(s).verdict, Verdict::kGo);
}

TEST(State, ShutdownOfTheDead) {
  State s;
  on_reset(s);
  EXPECT_EQ(on_shutdown(s, SHUT_RDWR), ENOTCONN);
}

}  // namespace
}  // namespace shunt::conn
