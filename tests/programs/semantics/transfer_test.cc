// Every way to move bytes, each with each, and the flags.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include <algorithm>

#include "net.h"

namespace shunt::test {
namespace {

using WriteFn = ssize_t (*)(int fd, const char* data, std::size_t size);
using ReadFn = ssize_t (*)(int fd, char* data, std::size_t size);

iovec vec(const char* data, std::size_t size) { return {const_cast<char*>(data), size}; }

// Three pieces, the middle one empty.
void split(const char* data, std::size_t size, iovec out[3]) {
  out[0] = vec(data, size / 3);
  out[1] = vec(data, 0);
  out[2] = vec(data + size / 3, size - size / 3);
}

ssize_t by_writev(int fd, const char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  return writev(fd, v, 3);
}
ssize_t by_sendmsg(int fd, const char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  msghdr m{};
  m.msg_iov = v;
  m.msg_iovlen = 3;
  return sendmsg(fd, &m, MSG_NOSIGNAL);
}
ssize_t by_sendmmsg(int fd, const char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  mmsghdr m[2]{};
  m[0].msg_hdr.msg_iov = v;
  m[0].msg_hdr.msg_iovlen = 1;
  m[1].msg_hdr.msg_iov = v + 1;
  m[1].msg_hdr.msg_iovlen = 2;
  const int n = sendmmsg(fd, m, 2, MSG_NOSIGNAL);
  if (n < 0) return -1;
  return (n > 0 ? m[0].msg_len : 0) + (n > 1 ? m[1].msg_len : 0);
}
ssize_t by_sendfile(int fd, const char* data, std::size_t size) {
  Fd file(memfd_create("semantics-file", MFD_CLOEXEC));
  if (write(file, data, size) != static_cast<ssize_t>(size)) return -1;
  off_t offset = 0;
  const ssize_t n = sendfile(fd, file, &offset, size);
  EXPECT_TRUE(n < 0 || offset == n);
  return n;
}
ssize_t by_readv(int fd, char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  return readv(fd, v, 3);
}
ssize_t by_recvmsg(int fd, char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  msghdr m{};
  m.msg_iov = v;
  m.msg_iovlen = 3;
  return recvmsg(fd, &m, 0);
}
ssize_t by_recvmmsg(int fd, char* data, std::size_t size) {
  iovec v[3];
  split(data, size, v);
  mmsghdr m{};
  m.msg_hdr.msg_iov = v;
  m.msg_hdr.msg_iovlen = 3;
  return recvmmsg(fd, &m, 1, 0, nullptr) == 1 ? static_cast<ssize_t>(m.msg_len) : -1;
}

struct Writer {
  const char* name;
  WriteFn call;
};
struct Reader {
  const char* name;
  ReadFn call;
};

constexpr Writer kWriters[] = {
    {"write", [](int fd, const char* d, std::size_t n) { return write(fd, d, n); }},
    {"writev", by_writev},
    {"send", [](int fd, const char* d, std::size_t n) { return send(fd, d, n, MSG_NOSIGNAL); }},
    {"sendto",
     [](int fd, const char* d, std::size_t n) { return sendto(fd, d, n, 0, nullptr, 0); }},
    {"sendmsg", by_sendmsg},
    {"sendmmsg", by_sendmmsg},
    {"sendfile", by_sendfile},
};
constexpr Reader kReaders[] = {
    {"read", [](int fd, char* d, std::size_t n) { return read(fd, d, n); }},
    {"readv", by_readv},
    {"recv", [](int fd, char* d, std::size_t n) { return recv(fd, d, n, 0); }},
    {"recvfrom",
     [](int fd, char* d, std::size_t n) { return recvfrom(fd, d, n, 0, nullptr, nullptr); }},
    {"recvmsg", by_recvmsg},
    {"recvmmsg", by_recvmmsg},
};

class Transfer : public ::testing::TestWithParam<std::tuple<Writer, Reader>> {};

TEST_P(Transfer, BytesInOrder) {
  const auto& [writer, reader] = GetParam();
  for (const std::size_t size : {std::size_t{1}, std::size_t{100}, std::size_t{5000},
                                 std::size_t{300'000}}) {
    Pair p = connected_pair();
    const std::string data = pattern(size, size);
    const WriteFn put = writer.call;
    std::thread sender([&] {
      std::size_t done = 0;
      while (done < size) {
        errno = 1234;
        const ssize_t n = put(p.client, data.data() + done, size - done);
        ASSERT_GT(n, 0) << strerror(errno);
        EXPECT_EQ(errno, 1234);
        done += static_cast<std::size_t>(n);
      }
      p.client.reset();
    });
    std::string got;
    std::string block(70'000, '\0');
    for (;;) {
      errno = 1234;
      const ssize_t n = reader.call(p.server, block.data(), block.size());
      EXPECT_GE(n, 0) << strerror(errno);
      EXPECT_EQ(errno, 1234);
      if (n <= 0) break;
      got.append(block, 0, static_cast<std::size_t>(n));
    }
    sender.join();
    ASSERT_EQ(got.size(), size);
    EXPECT_TRUE(got == data);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Transfer,
                         ::testing::Combine(::testing::ValuesIn(kWriters),
                                            ::testing::ValuesIn(kReaders)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param).name) + "_" +
                                  std::get<1>(param.param).name;
                         });

TEST(Flags, Peek) {
  Pair p = connected_pair();
  send_all(p.client, "abcdef");
  wait_for(p.server, POLLIN);
  char buffer[16] = {};
  EXPECT_EQ(recv(p.server, buffer, 3, MSG_PEEK), 3);
  EXPECT_STREQ(buffer, "abc");
  EXPECT_EQ(recv(p.server, buffer, 16, MSG_PEEK), 6);
  EXPECT_STREQ(buffer, "abcdef");
  EXPECT_EQ(recv_exact(p.server, 6), "abcdef");
  EXPECT_EQ(recv(p.server, buffer, 1, MSG_PEEK | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Flags, PeekWaitsForData) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    send_all(p.client, "q");
  });
  char byte = 0;
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_PEEK), 1);
  EXPECT_EQ(byte, 'q');
  later.join();
  EXPECT_EQ(recv_exact(p.server, 1), "q");
}

TEST(Flags, PeekLarge) {
  Pair p = connected_pair();
  expect_echo(p.client, p.server, pattern(40'000));  // so that the next bytes cross a 64 KiB line
  const std::string data = pattern(50'000, 3);
  send_all(p.client, data);
  std::string seen(data.size(), '\0');
  ASSERT_EQ(recv(p.server, seen.data(), seen.size(), MSG_PEEK | MSG_WAITALL),
            static_cast<ssize_t>(seen.size()));
  EXPECT_TRUE(seen == data);
  EXPECT_TRUE(recv_exact(p.server, data.size()) == data);
}

TEST(Flags, WaitAll) {
  Pair p = connected_pair();
  const std::string data = pattern(400'000, 5);
  std::thread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 40'000) {
      send_all(p.client, data.substr(at, 40'000));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  std::string got(data.size(), '\0');
  EXPECT_EQ(recv(p.server, got.data(), got.size(), MSG_WAITALL),
            static_cast<ssize_t>(got.size()));
  sender.join();
  EXPECT_TRUE(got == data);
}

TEST(Flags, WaitAllAtEof) {
  Pair p = connected_pair();
  send_all(p.client, "part");
  p.client.reset();
  char buffer[64];
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 4);
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 0);
}

TEST(Flags, WaitAllWithTimeout) {
  Pair p = connected_pair();
  set_timeout(p.server, SO_RCVTIMEO, 60);
  send_all(p.client, "part");
  char buffer[64];
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 4);
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Flags, DontWait) {
  Pair p = connected_pair();
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  send_all(p.client, "z");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_DONTWAIT), 1);
  EXPECT_EQ(fcntl(p.server, F_GETFL) & O_NONBLOCK, 0);
}

TEST(Flags, TruncDiscards) {
  Pair p = connected_pair();
  send_all(p.client, "discardkeep");
  wait_for(p.server, POLLIN);
  char buffer[8] = "same";
  EXPECT_EQ(recv(p.server, buffer, 4, MSG_TRUNC), 4);
  EXPECT_STREQ(buffer, "same") << "MSG_TRUNC on a stream copies nothing";
  EXPECT_EQ(recv(p.server, nullptr, 3, MSG_TRUNC), 3);
  EXPECT_EQ(recv_exact(p.server, 4), "keep");
}

TEST(Flags, MoreIsNotLost) {
  Pair p = connected_pair();
  EXPECT_EQ(send(p.client, "ab", 2, MSG_MORE), 2);
  EXPECT_EQ(send(p.client, "cd", 2, 0), 2);
  EXPECT_EQ(recv_exact(p.server, 4), "abcd");
}

TEST(Flags, ErrorQueueIsEmpty) {
  Pair p = connected_pair();
  send_all(p.client, "data");
  wait_for(p.server, POLLIN);
  char buffer[8];
  iovec v{buffer, sizeof buffer};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(p.server, &m, MSG_ERRQUEUE | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(recv_exact(p.server, 4), "data");
}

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
