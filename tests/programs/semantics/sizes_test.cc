// Empty, tiny and huge transfers, vectors, message headers, files.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "net.h"

namespace shunt::test {
namespace {

TEST(Sizes, ZeroBytes) {
  Pair p = connected_pair();
  char byte;
  EXPECT_EQ(send(p.client, &byte, 0, 0), 0);
  EXPECT_EQ(write(p.client, &byte, 0), 0);
  EXPECT_EQ(writev(p.client, nullptr, 0), 0);
  EXPECT_EQ(wait_for(p.server, POLLIN, 20), 0) << "an empty write is no event";
  EXPECT_EQ(read(p.server, &byte, 0), 0);
  EXPECT_EQ(recv(p.server, &byte, 0, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  send_all(p.client, "x");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(recv(p.server, &byte, 0, 0), 0);
  EXPECT_EQ(recv_exact(p.server, 1), "x");
}

TEST(Sizes, VectorLimits) {
  Pair p = connected_pair();
  std::string data = pattern(1024, 9);
  std::vector<iovec> v;
  for (char& c : data) v.push_back({&c, 1});
  EXPECT_EQ(writev(p.client, v.data(), 1024), 1024);
  EXPECT_EQ(recv_exact(p.server, 1024), data);
  v.push_back(v[0]);
  EXPECT_EQ(writev(p.client, v.data(), 1025), -1);
  EXPECT_EQ(errno, EINVAL);
  volatile int negative = -1;
  EXPECT_EQ(readv(p.server, v.data(), negative), -1);
  EXPECT_EQ(errno, EINVAL);
  msghdr m{};
  m.msg_iov = v.data();
  m.msg_iovlen = 1025;
  EXPECT_EQ(sendmsg(p.client, &m, 0), -1);
  EXPECT_EQ(errno, EMSGSIZE);
  expect_echo(p.client, p.server, "ok");
}

TEST(Sizes, OneByteAtATime) {
  Pair p = connected_pair();
  const std::string data = pattern(3000, 4);
  for (char c : data) ASSERT_EQ(send(p.client, &c, 1, 0), 1);
  EXPECT_EQ(recv_exact(p.server, data.size()), data);
}

TEST(Sizes, ReadTakesWhatIsThere) {
  Pair p = connected_pair();
  send_all(p.client, "abc");
  wait_for(p.server, POLLIN);
  char buffer[4096];
  EXPECT_EQ(read(p.server, buffer, sizeof buffer), 3);
}

TEST(Sizes, BlockingWriteTakesEverything) {
  Pair p = connected_pair();
  const std::string data = pattern(20 << 20, 8);  // far above any buffer
  std::thread sender([&] {
    EXPECT_EQ(send(p.client, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
  });
  std::string got = recv_exact(p.server, data.size());
  sender.join();
  EXPECT_TRUE(got == data);
}

TEST(Sizes, FullBufferThenRoom) {
  Pair p = connected_pair();
  set_nonblocking(p.client);
  const std::size_t taken = fill(p.client);
  EXPECT_GT(taken, 16'000U);
  EXPECT_EQ(send(p.client, "x", 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(wait_for(p.client, POLLOUT, 0), 0);
  drain(p.server, taken);
  EXPECT_EQ(wait_for(p.client, POLLOUT), POLLOUT);
  expect_echo(p.client, p.server, "room again");
}

TEST(Sizes, ManyLaps) {
  Pair p = connected_pair();
  for (int lap = 0; lap < 300; ++lap) {
    const std::string data = pattern(static_cast<std::size_t>(1 + lap * 997 % 60'000), lap);
    expect_echo(p.client, p.server, data);
    expect_echo(p.server, p.client, data);
  }
}

TEST(Messages, ReceivedHeaderFields) {
  Pair p = connected_pair();
  send_all(p.client, "head");
  wait_for(p.server, POLLIN);
  char buffer[8];
  char control[64];
  Address from;
  iovec v{buffer, sizeof buffer};
  msghdr m{};
  m.msg_name = from.get();
  m.msg_namelen = from.length;
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  m.msg_flags = -1;
  EXPECT_EQ(recvmsg(p.server, &m, 0), 4);
  EXPECT_EQ(m.msg_namelen, 0U);
  EXPECT_EQ(m.msg_controllen, 0U);
  EXPECT_EQ(m.msg_flags, 0);
  send_all(p.client, "from");
  wait_for(p.server, POLLIN);
  from.length = sizeof from.storage;
  EXPECT_EQ(recvfrom(p.server, buffer, sizeof buffer, 0, from.get(), &from.length), 4);
  EXPECT_EQ(from.length, 0U);
}

TEST(Messages, DestinationIsIgnored) {
  Pair p = connected_pair();
  const Address other("127.0.0.9", 9);
  EXPECT_EQ(sendto(p.client, "abc", 3, 0, other.get(), other.length), 3);
  EXPECT_EQ(recv_exact(p.server, 3), "abc");
}

TEST(Messages, ManyAtOnce) {
  Pair p = connected_pair();
  char parts[3][4] = {"abc", "def", "ghi"};
  iovec v[3];
  mmsghdr m[3]{};
  for (int i = 0; i < 3; ++i) {
    v[i] = {parts[i], 3};
    m[i].msg_hdr.msg_iov = &v[i];
    m[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(sendmmsg(p.client, m, 3, 0), 3);
  EXPECT_EQ(m[2].msg_len, 3U);
  wait_for(p.server, POLLIN);
  char got[3][4] = {};
  for (int i = 0; i < 3; ++i) v[i] = {got[i], 3};
  EXPECT_EQ(recvmmsg(p.server, m, 3, MSG_WAITFORONE, nullptr), 3);
  EXPECT_STREQ(got[0], "abc");
  EXPECT_STREQ(got[2], "ghi");
}

TEST(Files, SendfileOffsets) {
  Pair p = connected_pair();
  Fd file(memfd_create("semantics-file", MFD_CLOEXEC));
  const std::string data = pattern(100'000, 2);
  ASSERT_EQ(write(file, data.data(), data.size()), static_cast<ssize_t>(data.size()));
  off_t offset = 90'000;
  EXPECT_EQ(sendfile(p.client, file, &offset, 50'000), 10'000);
  EXPECT_EQ(offset, 100'000);
  EXPECT_TRUE(recv_exact(p.server, 10'000) == data.substr(90'000));
  ASSERT_EQ(lseek(file, 99'990, SEEK_SET), 99'990);
  EXPECT_EQ(sendfile(p.client, file, nullptr, 50'000), 10);
  EXPECT_EQ(lseek(file, 0, SEEK_CUR), 100'000);
  EXPECT_EQ(sendfile(p.client, file, nullptr, 50'000), 0);
  EXPECT_EQ(recv_exact(p.server, 10), data.substr(99'990));
}

TEST(Files, SendfileNonBlocking) {
  Pair p = connected_pair();
  Fd file(memfd_create("semantics-file", MFD_CLOEXEC));
  const std::string data = pattern(16 << 20, 2);
  ASSERT_EQ(write(file, data.data(), data.size()), static_cast<ssize_t>(data.size()));
  set_nonblocking(p.client);
  off_t offset = 0;
  std::size_t sent = 0;
  for (;;) {
    const ssize_t n = sendfile(p.client, file, &offset, data.size() - sent);
    if (n < 0) break;
    sent += static_cast<std::size_t>(n);
    ASSERT_LT(sent, data.size()) << "the buffer is unbounded";
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(static_cast<std::size_t>(offset), sent);
  EXPECT_TRUE(recv_exact(p.server, sent) == data.substr(0, sent));
}

}  // namespace
}  // namespace shunt::test
