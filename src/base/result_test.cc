#include "base/result.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "base/untrusted.h"

namespace shunt {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Error{EINVAL};
  return n / 2;
}

TEST(Result, ValueOrErrno) {
  EXPECT_TRUE(half(8).ok());
  EXPECT_EQ(half(8).value(), 4);
  EXPECT_EQ(half(8).error(), 0);
  EXPECT_FALSE(half(7));
  EXPECT_EQ(half(7).error(), EINVAL);
}

TEST(Result, MoveOnlyValue) {
  Result<std::unique_ptr<int>> r(std::make_unique<int>(5));
  ASSERT_TRUE(r.ok());
  const std::unique_ptr<int> taken = r.take();
  EXPECT_EQ(*taken, 5);
}

TEST(Result, Void) {
  EXPECT_TRUE(Result<void>().ok());
  EXPECT_EQ(Result<void>(Error{ENOMEM}).error(), ENOMEM);
  EXPECT_FALSE(Result<void>(Error{ENOMEM}).ok());
}

TEST(Untrusted, CopiesOnceWhatIsThere) {
  std::atomic<std::uint32_t> place{7};
  const Untrusted<std::uint32_t> word(place);
  const std::uint32_t copy = word.copy();
  place.store(8);
  EXPECT_EQ(copy, 7U);
  EXPECT_EQ(word.copy_acquire(), 8U);
}

}  // namespace
}  // namespace shunt
