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
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{100}, std::size_t{5000}, std::size_t{300'000}}) {
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

}  // namespace
}  // namespace shunt::test
