#include "sockets/holders/inherit.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets/downgrade/label.h"
#include "sockets/holders/adopt.h"
#include "sockets/setup/establish.h"
#include "sockets/setup/listener.h"
#include "sockets/stream/send.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_connection.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

Kind kind_of(const TestEnd& end) { return end.socket->kind.load(); }

bool close_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

void close_on_exec(int fd, bool on) { ::fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0); }

bool labelled(int fd) {
  Label label;
  return read_label(fd, &label);
}

struct Named : ShuntedPair {
  Named() {
    for (const TestEnd* end : {&a, &b}) {
      end->connection()->local = {AF_INET, 1, {127, 0, 0, 1}};
      end->connection()->remote = {AF_INET, 2, {127, 0, 0, 1}};
      note_bell(end->fd, end->socket);
      close_on_exec(end->fd, true);
    }
    a.connection()->connecting_side = true;
  }
};

KeptBack hand_all_on() {
  KeptBack kept;
  downgrade_inherited(&kept);
  return kept;
}

TEST(Inherit, OnlyWhatStaysOpenIsDowngraded) {
  Named stays;
  Named goes;
  close_on_exec(stays.a.fd, false);
  const iovec part{const_cast<char*>("before"), 6};
  ASSERT_EQ(6, send_stream(stays.b.fd, stays.b.socket, &part, 1, 0));
  hand_all_on();
  EXPECT_EQ(Kind::kPlain, kind_of(stays.a));
  EXPECT_TRUE(labelled(stays.a.fd));
  EXPECT_FALSE(close_on_exec(stays.a.fd));
  EXPECT_EQ(Kind::kConnection, kind_of(goes.a));
  EXPECT_FALSE(labelled(goes.a.fd));
  // The other end follows at its next call, and nothing is lost on the way.
  stream_events(stays.b.socket, POLLIN);
  char got[8] = {};
  EXPECT_EQ(6, ::recv(stays.a.fd, got, sizeof got, MSG_DONTWAIT));
  EXPECT_STREQ("before", got);
}

TEST(Inherit, OneDescriptorThatStaysOpenIsEnough) {
  Named p;
  const int copy = ::dup(p.a.fd);  // open; the first is close-on-exec
  enter_again(copy, p.a.socket);
  hand_all_on();
  EXPECT_EQ(Kind::kPlain, kind_of(p.a));
  drop_reference(take_out(copy));
  ::close(copy);
}

// Peers that claim to be ringing, and never come to an end.
struct Ringing : Named {
  Ringing() { claim(1); }
  ~Ringing() { claim(0); }
  void claim(std::uint32_t count) { b.connection()->own->switch_line.ringing.store(count); }
};

TEST(Inherit, PeersThatNeverStopRingingCostOneSecondTogether) {
  Ringing hostile[5];
  Named honest;
  for (const Ringing& each : hostile) close_on_exec(each.a.fd, false);
  close_on_exec(honest.a.fd, false);
  const std::int64_t begin = sys::monotonic_ns();
  hand_all_on();
  EXPECT_GT(2'500'000'000, sys::monotonic_ns() - begin);
  for (const Ringing& each : hostile) {
    EXPECT_EQ(Kind::kConnection, kind_of(each.a));
    EXPECT_TRUE(close_on_exec(each.a.fd)) << "kept back";
  }
  EXPECT_EQ(Kind::kPlain, kind_of(honest.a)) << "with no time left, and no need of any";
}

TEST(Inherit, WhatCannotBeDowngradedIsNotInherited) {
  Named p;
  const int copy = ::dup(p.a.fd);
  enter_again(copy, p.a.socket);
  close_on_exec(p.a.fd, false);
  const layout::Area* peer = p.a.connection()->peer.exchange(nullptr);  // not accepted yet
  const KeptBack kept = hand_all_on();
  EXPECT_EQ(Kind::kConnection, kind_of(p.a));
  EXPECT_TRUE(close_on_exec(p.a.fd));
  EXPECT_TRUE(close_on_exec(copy));
  release_kept(kept);  // the exec failed, or it was a spawn
  EXPECT_FALSE(close_on_exec(p.a.fd));
  EXPECT_FALSE(close_on_exec(copy));
  EXPECT_EQ(-EAGAIN, downgrade_for_passing(p.a.fd));
  p.a.connection()->peer.store(peer);
  drop_reference(take_out(copy));
  ::close(copy);
}

TEST(Inherit, ANumberThatNamesAnotherFileIsLeftAlone) {
  Named p;
  const int kept = ::dup(p.a.fd);
  int other[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM, 0, other));
  ASSERT_EQ(p.a.fd, ::dup2(other[0], p.a.fd));  // behind our back, or in a vfork child
  hand_all_on();
  EXPECT_EQ(0, downgrade_for_passing(p.a.fd));
  EXPECT_EQ(Kind::kConnection, kind_of(p.a));
  char byte;
  EXPECT_EQ(-1, ::recv(other[1], &byte, 1, MSG_DONTWAIT));
  ::dup2(kept, p.a.fd);
  for (int fd : {kept, other[0], other[1]}) ::close(fd);
}

TEST(Inherit, PassingConcernsConnectionsOnly) {
  Named p;
  int pipe[2];
  ASSERT_EQ(0, ::pipe(pipe));
  EXPECT_EQ(0, downgrade_for_passing(pipe[0]));
  EXPECT_EQ(0, downgrade_for_passing(-1));
  EXPECT_EQ(0, downgrade_for_passing(p.b.fd));  // close-on-exec or not
  EXPECT_EQ(Kind::kPlain, kind_of(p.b));
  EXPECT_EQ(0, downgrade_for_passing(p.b.fd));  // again
  ::close(pipe[0]);
  ::close(pipe[1]);
}

struct Listening {
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  Socket* socket = nullptr;
  explicit Listening(bool nonblocking) {
    socklen_t length;
    const sockaddr_storage address = loopback_address(AF_INET, &length);
    EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&address), length));
    EXPECT_EQ(0, ::listen(fd, 4));
    if (nonblocking) ::fcntl(fd, F_SETFL, O_NONBLOCK);
    socket = enter(fd, Kind::kTcp, AF_INET);
    listening(fd, socket, 4);
    EXPECT_EQ(Kind::kListener, socket->kind.load());
    EXPECT_TRUE(kernel_nonblocking());
  }
  ~Listening() {
    drop_reference(take_out(fd));
    ::close(fd);
  }
  bool kernel_nonblocking() const { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }
};

TEST(Inherit, AListenerIsBlockingForItsNewHolderIfTheProgramWantsItSo) {
  Listening blocking(false);
  Listening nonblocking(true);
  hand_all_on();
  EXPECT_FALSE(blocking.kernel_nonblocking());
  EXPECT_TRUE(nonblocking.kernel_nonblocking());
}

TEST(Inherit, AListenerForAnotherProgramIsFoundByKernelTcp) {
  const auto has_rendezvous = [](const Listening& l) {
    pollfd p{l.socket->listener->rendezvous, 0, 0};
    return ::poll(&p, 1, 0) == 0;  // else: hung up
  };
  Listening leaked(false);
  Listening passed(false);
  Listening doubled(false);
  const int copy = ::dup(doubled.fd);
  enter_again(copy, doubled.socket);
  hand_all_on();
  EXPECT_EQ(0, downgrade_for_passing(passed.fd));
  EXPECT_TRUE(has_rendezvous(leaked));
  EXPECT_FALSE(has_rendezvous(passed));
  EXPECT_FALSE(has_rendezvous(doubled));
  drop_reference(take_out(copy));
  ::close(copy);
}

TEST(Inherit, ASharedListenerStillServesItsFirstHolder) {
  Listening l(false);
  EXPECT_EQ(0, downgrade_for_passing(l.fd));
  EXPECT_FALSE(l.kernel_nonblocking());
  sockaddr_storage address;
  socklen_t length = sizeof address;
  ::getsockname(l.fd, reinterpret_cast<sockaddr*>(&address), &length);
  for (int i = 0; i < 3; ++i) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(0, ::connect(client, reinterpret_cast<const sockaddr*>(&address), length));
    const long accepted = accept_socket(l.fd, l.socket, nullptr, nullptr, 0);
    ASSERT_GE(accepted, 0);
    EXPECT_FALSE(l.kernel_nonblocking());
    drop_reference(take_out(static_cast<int>(accepted)));
    ::close(static_cast<int>(accepted));
    ::close(client);
  }
}

}  // namespace
}  // namespace shunt::sockets
