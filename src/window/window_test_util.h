// A directory for each test, and texts of errors.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "window/error.h"

namespace shunt::window {

namespace fs = std::filesystem;

#define EXPECT_SAYS(text, part) EXPECT_PRED_FORMAT2(::testing::IsSubstring, part, text)

template <typename F>
std::string error_of(F f) {
  try {
    f();
  } catch (const WindowError& e) {
    return e.what();
  }
  return "no error";
}

class WindowFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/shunt-window-XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(pattern));
    base = pattern;
    dir = base + "/w";
  }
  void TearDown() override { fs::remove_all(base); }

  std::string base;
  std::string dir;
};

}  // namespace shunt::window
