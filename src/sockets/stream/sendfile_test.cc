#include "sockets/stream/sendfile.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <thread>

#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_connection.h"

namespace shunt::sockets {
namespace {

std::string pattern(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 2654435761u >> 13);
  return out;
}

struct File {
  int fd = memfd_create("file", 0);
  explicit File(const std::string& content) {
    EXPECT_EQ(static_cast<ssize_t>(content.size()), write(fd, content.data(), content.size()));
    lseek(fd, 0, SEEK_SET);
  }
  ~File() { close(fd); }
};

struct Pipe {
  int out;
  int in;
  explicit Pipe(int flags = 0) {
    int fds[2];
    EXPECT_EQ(0, pipe2(fds, flags));
    out = fds[0];
    in = fds[1];
  }
  void close_in() {
    if (in >= 0) close(in);
    in = -1;
  }
  ~Pipe() {
    close_in();
    close(out);
  }
};

std::string receive(const TestEnd& end, std::size_t size) {
  std::string out(size, '\0');
  const iovec part{out.data(), size};
  const long n = receive_stream(end.fd, end.socket, &part, 1, MSG_WAITALL).value();
  out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return out;
}

long send(const TestEnd& end, const std::string& bytes) {
  const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  return send_stream(end.fd, end.socket, &part, 1, 0).value();
}

void make_nonblocking(const TestEnd& end) { end.connection()->nonblocking = true; }

TEST(Sendfile, SendsFromThePositionAndMovesIt) {
  const ShuntedPair pair;
  const std::string content = pattern(300'000);
  const File file(content);
  EXPECT_EQ(200'000, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, 200'000));
  EXPECT_EQ(200'000, lseek(file.fd, 0, SEEK_CUR));
  EXPECT_EQ(content.substr(0, 200'000), receive(pair.b, 200'000));
  EXPECT_EQ(100'000, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, 1'000'000));
  EXPECT_EQ(content.substr(200'000), receive(pair.b, 100'000));
  EXPECT_EQ(0, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, 1));
}

TEST(Sendfile, WithAnOffsetThePositionStays) {
  const ShuntedPair pair;
  const std::string content = pattern(1000);
  const File file(content);
  off_t offset = 100;
  EXPECT_EQ(50, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, &offset, 50));
  EXPECT_EQ(150, offset);
  EXPECT_EQ(0, lseek(file.fd, 0, SEEK_CUR));
  EXPECT_EQ(content.substr(100, 50), receive(pair.b, 50));
}

TEST(Sendfile, APartialSendMovesThePositionByWhatWasSent) {
  const ShuntedPair pair;
  make_nonblocking(pair.a);
  const std::string content = pattern(6'000'000);
  const File file(content);
  const long first =
      sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, content.size()).value();
  ASSERT_LT(0, first);
  ASSERT_GT(6'000'000, first);
  EXPECT_EQ(first, lseek(file.fd, 0, SEEK_CUR));
  EXPECT_EQ(-EAGAIN, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, content.size()));
  std::string got = receive(pair.b, static_cast<std::size_t>(first));
  while (got.size() < content.size()) {
    const long n =
        sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, content.size()).value();
    ASSERT_LT(0, n);
    got += receive(pair.b, static_cast<std::size_t>(n));
  }
  EXPECT_TRUE(content == got);
}

TEST(Sendfile, ErrorsAreLinuxs) {
  const ShuntedPair pair;
  const Pipe pipe;
  off_t offset = -1;
  const File file("x");
  EXPECT_EQ(-EINVAL, sendfile_stream(pair.a.fd, pair.a.socket, pipe.out, nullptr, 1));
  EXPECT_EQ(-EINVAL, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, &offset, 1));
  offset = 0;
  EXPECT_EQ(-ESPIPE, sendfile_stream(pair.a.fd, pair.a.socket, pipe.out, &offset, 1));
  EXPECT_EQ(-EBADF, sendfile_stream(pair.a.fd, pair.a.socket, -1, nullptr, 1));
  const int write_only = open("/dev/null", O_WRONLY);
  EXPECT_EQ(-EBADF, sendfile_stream(pair.a.fd, pair.a.socket, write_only, nullptr, 1));
  close(write_only);
  const int directory = open("/", O_RDONLY);
  EXPECT_EQ(-EINVAL, sendfile_stream(pair.a.fd, pair.a.socket, directory, nullptr, 1));
  close(directory);
  ASSERT_EQ(0, shutdown_stream(pair.a.fd, pair.a.socket, SHUT_WR));
  EXPECT_EQ(-EPIPE, sendfile_stream(pair.a.fd, pair.a.socket, file.fd, nullptr, 1));
  EXPECT_EQ(0, lseek(file.fd, 0, SEEK_CUR));
}

TEST(Splice, MovesAPipeIntoTheStream) {
  const ShuntedPair pair;
  const Pipe pipe;
  const std::string content = pattern(50'000);
  ASSERT_EQ(50'000, write(pipe.in, content.data(), content.size()));
  EXPECT_EQ(20'000, splice_stream(pipe.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr,
                                  20'000, 0));
  EXPECT_EQ(30'000, splice_stream(pipe.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr,
                                  1'000'000, 0));
  EXPECT_EQ(content, receive(pair.b, content.size()));
}

TEST(Splice, AnEmptyPipe) {
  const ShuntedPair pair;
  Pipe pipe;
  const auto splice = [&](unsigned flags) {
    return splice_stream(pipe.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr, 10, flags);
  };
  EXPECT_EQ(-EAGAIN, splice(SPLICE_F_NONBLOCK));
  std::thread writer([&] { EXPECT_EQ(5, write(pipe.in, "later", 5)); });
  EXPECT_EQ(5, splice(0));
  writer.join();
  pipe.close_in();
  EXPECT_EQ(0, splice(0));
}

TEST(Splice, AFullStreamTakesNothingFromThePipe) {
  const ShuntedPair pair;
  make_nonblocking(pair.a);
  while (send(pair.a, pattern(100'000)) > 0) {
  }
  const Pipe pipe;
  ASSERT_EQ(3, write(pipe.in, "abc", 3));
  EXPECT_EQ(-EAGAIN,
            splice_stream(pipe.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr, 3, 0));
  char kept[4] = {};
  EXPECT_EQ(3, read(pipe.out, kept, sizeof kept));
  EXPECT_STREQ("abc", kept);
}

TEST(Splice, ABrokenStreamTakesNothingFromThePipe) {
  const ShuntedPair pair;
  const Pipe pipe;
  ASSERT_EQ(3, write(pipe.in, "abc", 3));
  ASSERT_EQ(0, shutdown_stream(pair.a.fd, pair.a.socket, SHUT_WR));
  EXPECT_EQ(-EPIPE,
            splice_stream(pipe.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr, 3, 0));
  char kept[4];
  EXPECT_EQ(3, read(pipe.out, kept, sizeof kept));
}

TEST(Splice, MovesTheStreamIntoAPipe) {
  const ShuntedPair pair;
  const Pipe pipe;
  const std::string content = pattern(40'000);
  ASSERT_EQ(40'000, send(pair.b, content));
  EXPECT_EQ(30'000,
            splice_stream(pair.a.fd, pair.a.socket, nullptr, pipe.in, nullptr, nullptr, 30'000, 0));
  EXPECT_EQ(10'000, splice_stream(pair.a.fd, pair.a.socket, nullptr, pipe.in, nullptr, nullptr,
                                  1'000'000, 0));
  std::string got(content.size(), '\0');
  EXPECT_EQ(40'000, read(pipe.out, got.data(), got.size()));
  EXPECT_EQ(content, got);
}

TEST(Splice, AFullPipeTakesNothingFromTheStream) {
  const ShuntedPair pair;
  const Pipe pipe(O_NONBLOCK);
  const std::string content = pattern(200'000);
  ASSERT_EQ(200'000, send(pair.b, content));
  const auto splice = [&] {
    return splice_stream(pair.a.fd, pair.a.socket, nullptr, pipe.in, nullptr, nullptr, 200'000,
                         SPLICE_F_NONBLOCK);
  };
  make_nonblocking(pair.a);
  std::string got;
  while (got.size() < content.size()) {
    const long n = splice().value();
    ASSERT_LT(0, n);
    ASSERT_EQ(-EAGAIN, splice());
    std::string part(static_cast<std::size_t>(n), '\0');
    ASSERT_EQ(n, read(pipe.out, part.data(), part.size()));
    got += part;
  }
  EXPECT_TRUE(content == got);
}

TEST(Splice, EndOfStreamAndNothingThere) {
  const ShuntedPair pair;
  const Pipe pipe;
  const auto splice = [&] {
    return splice_stream(pair.a.fd, pair.a.socket, nullptr, pipe.in, nullptr, nullptr, 10, 0);
  };
  make_nonblocking(pair.a);
  EXPECT_EQ(-EAGAIN, splice());
  ASSERT_EQ(0, shutdown_stream(pair.b.fd, pair.b.socket, SHUT_WR));
  EXPECT_EQ(0, splice());
}

TEST(Splice, ErrorsAreLinuxs) {
  const ShuntedPair pair;
  const Pipe pipe;
  const File file("x");
  off_t offset = 0;
  const int fd = pair.a.fd;
  Socket* s = pair.a.socket;
  EXPECT_EQ(-EINVAL, splice_stream(file.fd, nullptr, nullptr, fd, s, nullptr, 1, 0));
  EXPECT_EQ(-EBADF, splice_stream(-1, nullptr, nullptr, fd, s, nullptr, 1, 0));
  EXPECT_EQ(-EBADF, splice_stream(pipe.in, nullptr, nullptr, fd, s, nullptr, 1, 0));
  EXPECT_EQ(-ESPIPE, splice_stream(pipe.out, nullptr, &offset, fd, s, nullptr, 1, 0));
  EXPECT_EQ(-EINVAL, splice_stream(pipe.out, nullptr, nullptr, fd, s, &offset, 1, 0));
  EXPECT_EQ(-EINVAL, splice_stream(pipe.out, nullptr, nullptr, fd, s, nullptr, 1, 1024));
  EXPECT_EQ(-EINVAL, splice_stream(fd, s, nullptr, fd, s, nullptr, 1, 0));
  EXPECT_EQ(0, splice_stream(pipe.out, nullptr, nullptr, fd, s, nullptr, 0, 0));
}

// As a relay does: nothing is lost or torn on the way through two pipes and a full stream.
TEST(Splice, ManyBytesThroughAPipeIntoTheStreamAndOut) {
  const ShuntedPair pair;
  constexpr std::size_t kTotal = 20'000'000;
  const std::string content = pattern(kTotal);
  Pipe source;
  Pipe sink;
  std::thread feed([&] {
    std::size_t done = 0;
    while (done < kTotal) {
      const ssize_t n = write(source.in, content.data() + done, kTotal - done);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    source.close_in();
  });
  std::thread forward([&] {
    while (
        splice_stream(source.out, nullptr, nullptr, pair.a.fd, pair.a.socket, nullptr, 1 << 20, 0)
            .value() > 0) {
    }
    shutdown_stream(pair.a.fd, pair.a.socket, SHUT_WR);
  });
  std::thread backward([&] {
    while (splice_stream(pair.b.fd, pair.b.socket, nullptr, sink.in, nullptr, nullptr, 1 << 20, 0)
               .value() > 0) {
    }
    sink.close_in();
  });
  std::string got;
  std::string part(1 << 16, '\0');
  for (;;) {
    const ssize_t n = read(sink.out, part.data(), part.size());
    if (n <= 0) break;
    got.append(part, 0, static_cast<std::size_t>(n));
  }
  feed.join();
  forward.join();
  backward.join();
  EXPECT_TRUE(content == got);
}

}  // namespace
}  // namespace shunt::sockets
