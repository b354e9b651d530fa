// Leases end when, and only when, the last process that maps the area has let go of it, in whatever way.
#include "window/window_lease.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>

namespace shunt::window {
namespace {

constexpr std::size_t kArea = 64 * 1024;
constexpr std::uint64_t kOne = 5 * kArea;
constexpr std::uint64_t kTwo = 9 * kArea;
constexpr std::uint64_t kBase = 4096;

class Lease : public ::testing::Test {
 protected:
  Lease() {
    EXPECT_EQ(0, ftruncate(object.get(), 16 * kArea));
    place = LeasePlace{object.get(), kBase, 1};
  }

  UniqueFd take(std::uint64_t offset) {
    const std::array<std::uint64_t, 1> offsets{offset};
    return lease(place, offsets);
  }
  static void* map(const UniqueFd& fd, std::uint64_t offset, int protection = PROT_READ) {
    void* at =
        mmap(nullptr, kArea, protection, MAP_SHARED, fd.get(), static_cast<off_t>(kBase + offset));
    EXPECT_NE(MAP_FAILED, at);
    return at;
  }
  // Runs in a child, which then stays until it is told by `go`'s end, or killed.
  template <typename Body>
  static pid_t child(UniqueFd* go, Body body) {
    int fds[2];
    EXPECT_EQ(0, pipe(fds));
    const pid_t pid = fork();
    if (pid == 0) {
      close(fds[1]);
      body();
      char byte = 0;
      while (read(fds[0], &byte, 1) > 0) {
      }
      _exit(0);
    }
    close(fds[0]);
    go->reset(fds[1]);
    return pid;
  }

  UniqueFd object{memfd_create("lease-test", MFD_CLOEXEC)};
  LeasePlace place;
};

TEST_F(Lease, DescriptorHoldsIt) {
  EXPECT_FALSE(leased(place, kOne));
  UniqueFd fd = take(kOne);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(leased(place, kOne));
  EXPECT_FALSE(leased(place, kTwo));
  fd.reset();
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, OneDescriptorForTwoAreas) {
  const std::array<std::uint64_t, 2> both{kOne, kTwo};
  UniqueFd fd = lease(place, both);
  ASSERT_TRUE(fd);
  void* at = map(fd, kTwo);
  fd.reset();
  EXPECT_TRUE(leased(place, kOne)) << "one description: both end together";
  EXPECT_TRUE(leased(place, kTwo));
  munmap(at, kArea);
  EXPECT_FALSE(leased(place, kOne));
  EXPECT_FALSE(leased(place, kTwo));
}

TEST_F(Lease, MappingHoldsItWithoutTheDescriptor) {
  UniqueFd fd = take(kOne);
  void* at = map(fd, kOne, PROT_READ | PROT_WRITE);
  fd.reset();
  EXPECT_TRUE(leased(place, kOne));
  munmap(at, kArea / 2);
  EXPECT_TRUE(leased(place, kOne)) << "half of it is still there";
  munmap(static_cast<char*>(at) + kArea / 2, kArea / 2);
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, DriversOwnMappingIsNone) {
  void* at = map(object, kOne, PROT_READ | PROT_WRITE);
  EXPECT_FALSE(leased(place, kOne));
  munmap(at, kArea);
}

TEST_F(Lease, OtherPartitionsDriverDoesNotSeeIt) {
  UniqueFd fd = take(kOne);
  const LeasePlace other{object.get(), kBase, 2};
  EXPECT_FALSE(leased(other, kOne));
  EXPECT_TRUE(leased(place, kOne));
}

TEST_F(Lease, AgainWhileAnEarlierOneIsHeld) {
  UniqueFd first = take(kOne);
  void* at = map(first, kOne);
  UniqueFd second = take(kOne);
  ASSERT_TRUE(second);
  first.reset();
  second.reset();
  EXPECT_TRUE(leased(place, kOne)) << "the first one's mapping";
  munmap(at, kArea);
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, HeldByWhicheverProcessOfAForkIsLast) {
  UniqueFd fd = take(kOne);
  void* at = map(fd, kOne);
  fd.reset();
  UniqueFd go;
  const pid_t pid = child(&go, [] {});
  munmap(at, kArea);
  EXPECT_TRUE(leased(place, kOne)) << "the child has inherited the mapping";
  go.reset();
  ASSERT_EQ(pid, waitpid(pid, nullptr, 0));
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, EndsWithAKilledProcess) {
  UniqueFd fd = take(kOne);
  UniqueFd go;
  const pid_t pid = child(&go, [&] { map(fd, kOne); });
  fd.reset();
  EXPECT_TRUE(leased(place, kOne));
  kill(pid, SIGKILL);
  ASSERT_EQ(pid, waitpid(pid, nullptr, 0));
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, EndOfTheThreadThatMappedIsNoEnd) {
  UniqueFd fd = take(kOne);
  void* at = nullptr;
  std::thread([&] {
    at = map(fd, kOne);
    fd.reset();
  }).join();
  EXPECT_TRUE(leased(place, kOne));
  std::thread([&] { munmap(at, kArea); }).join();
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, ShortOfDescriptors) {
  rlimit before{};
  ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
  errno = 0;
  const UniqueFd fd = take(kOne);
  const int error = errno;
  ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
  EXPECT_FALSE(fd);
  EXPECT_EQ(EMFILE, error);
  EXPECT_FALSE(leased(place, kOne));
}

TEST_F(Lease, WhenTheKernelCannotBeAskedTheAnswerIsYes) {
  EXPECT_TRUE(leased(LeasePlace{-1, 0, 1}, kOne));
  const std::array<std::uint64_t, 1> offsets{kOne};
  EXPECT_FALSE(lease(LeasePlace{-1, 0, 1}, offsets));
}

}  // namespace
}  // namespace shunt::window
