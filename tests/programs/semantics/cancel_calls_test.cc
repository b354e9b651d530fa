// pthread_cancel() of a thread that is blocked in send(), accept() or connect().
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "victim.h"

namespace shunt::test {
namespace {

// The type that the program sees is what it was, also after a call that has slept.
TEST(Cancel, TypeIsTheProgramsOwn) {
  Pair p = connected_pair();
  Later later([&] { send_all(p.client, "x"); });
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, 0), 1);
  int type = -1;
  EXPECT_EQ(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type), 0);
  EXPECT_EQ(type, PTHREAD_CANCEL_DEFERRED);
}

void send_for_ever(int fd) {
  const std::string block = pattern(1 << 16);
  while (send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
}

TEST(Cancel, SendWithAFullBuffer) {
  Pair p = connected_pair();
  Victim victim([&] { send_for_ever(p.client); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(victim.cancel_asleep());
  while (wait_for(p.server, POLLIN, 100) != 0) {
    char block[1 << 16];
    ASSERT_GT(recv(p.server, block, sizeof block, MSG_DONTWAIT), 0);
  }
  std::swap(p.client, p.server);
  expect_usable(p);
}

// Another thread goes on sending into the same full buffer, and is woken by room.
TEST(Cancel, OneOfTwoSenders) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  const std::string block = pattern(1 << 20);
  Victim other([&] { send_all(p.client, block); });
  Victim victim([&] { send_for_ever(p.client); });
  EXPECT_TRUE(victim.cancel_asleep());
  std::thread reader([&] { recv_to_eof(p.server); });
  EXPECT_FALSE(other.join());
  p.client.reset();
  reader.join();
}

// libc has it so: sendfile() sleeps on.
TEST(Cancel, SendfileIsNoPoint) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  set_nonblocking(p.client, false);
  const Fd file(memfd_create("data", MFD_CLOEXEC));
  const std::string data = pattern(50'000);
  ASSERT_EQ(pwrite(file, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
  std::atomic<ssize_t> sent{0};
  Victim victim([&] {
    off_t offset = 0;
    sent = sendfile(p.client, file, &offset, data.size());
    pthread_testcancel();
  });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.cancel();
  std::this_thread::sleep_for(kToFallAsleep);
  EXPECT_EQ(sent, 0);
  drain(p.server, taken);
  EXPECT_TRUE(recv_exact(p.server, data.size()) == data);
  EXPECT_TRUE(victim.join());
  EXPECT_EQ(sent, static_cast<ssize_t>(data.size()));
}

TEST(Cancel, WaitForRoom) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  fill(p.client);
  set_nonblocking(p.client, false);
  Victim victim([&] { wait_for(p.client, POLLOUT, -1); });
  EXPECT_TRUE(victim.cancel_asleep());
  Later later([&] {
    while (wait_for(p.server, POLLIN, 50) != 0) {
      char block[1 << 16];
      if (recv(p.server, block, sizeof block, MSG_DONTWAIT) <= 0) break;
    }
  });
  EXPECT_EQ(wait_for(p.client, POLLOUT), POLLOUT);
}

void accept_one(int fd) { Fd(accept(fd, nullptr, nullptr)).reset(); }
void accept4_one(int fd) { Fd(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)).reset(); }
void poll_one(int fd) { wait_for(fd, POLLIN, -1); }

TEST(Cancel, Accept) {
  for (void (*call)(int) : {accept_one, accept4_one, poll_one}) {
    Fd listener = listen_on();
    const std::uint16_t port = port_of(listener);
    Victim victim([&] { call(listener); });
    EXPECT_TRUE(victim.cancel_asleep());
    EXPECT_EQ(victim.cleaned(), 1);
    // It still takes connections, also for a thread that has to wait for one.
    Pair p;
    {
      Later later([&] { p.client = connect_to("127.0.0.1", port); });
      p.server = accept_from(listener);
    }
    expect_usable(p);
    listener.reset();
    Address address("127.0.0.1", port);
    Fd late = tcp_socket();
    expect_error(connect(late, address.get(), address.length), ECONNREFUSED, "closed listener");
  }
}

TEST(Cancel, AcceptDisabled) {
  Fd listener = listen_on();
  std::atomic<bool> accepted{false};
  Victim victim([&] {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    Fd fd = accept_from(listener);
    accepted = fd >= 0;
  });
  std::this_thread::sleep_for(kToFallAsleep);
  victim.cancel();
  std::this_thread::sleep_for(kToFallAsleep);
  EXPECT_FALSE(accepted);
  Fd client = connect_to("127.0.0.1", port_of(listener));
  EXPECT_FALSE(victim.join());
  EXPECT_TRUE(accepted);
}

TEST(Cancel, ConnectToAFullBacklog) {
  Fd listener = listen_on("127.0.0.1", 1);
  const std::uint16_t port = port_of(listener);
  std::vector<Fd> clients(1000);
  std::atomic<int> count{0};
  Victim victim([&] {
    Address address("127.0.0.1", port);
    for (Fd& fd : clients) {
      fd = tcp_socket(AF_INET, SOCK_CLOEXEC);
      if (connect(fd, address.get(), address.length) != 0) return;
      ++count;
    }
  });
  // Until connect() has made no progress for a while.
  for (int before = -1; before != count;) {
    before = count;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ASSERT_LT(count, 1000);
  EXPECT_TRUE(victim.cancel_asleep());
  // The cancelled thread's socket is still good for close(), and the listener for its clients.
  Fd& last = clients[static_cast<std::size_t>(count.load())];
  EXPECT_GE(last, 0);
  last.reset();
  Fd server = accept_from(listener);
  expect_echo(clients[0], server, "in time");
}

}  // namespace
}  // namespace shunt::test
