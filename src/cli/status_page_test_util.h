// Status pages for tests: in a memory object, as a provider makes them. Tests only.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "layout/status_page.h"
#include "window/unique_fd.h"

namespace shunt::cli {

class TestPage {
 public:
  explicit TestPage(std::size_t size = sizeof(layout::StatusPage))
      : fd_(memfd_create(layout::kStatusPageName, MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(size)), 0);
    void* memory =
        mmap(nullptr, sizeof(layout::StatusPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    EXPECT_NE(memory, MAP_FAILED);
    page_ = static_cast<layout::StatusPage*>(memory);
    if (size < sizeof(layout::StatusPage)) return;
    page_->magic = layout::kStatusMagic;
    page_->version = layout::kStatusVersion;
    page_->pid = static_cast<std::uint32_t>(getpid());
  }
  ~TestPage() { munmap(page_, sizeof(layout::StatusPage)); }
  TestPage(const TestPage&) = delete;
  TestPage& operator=(const TestPage&) = delete;

  int fd() const { return fd_.get(); }
  layout::StatusPage* operator->() { return page_; }

  layout::StatusEntry& add(layout::EntryState state, layout::EntryVia via) {
    layout::StatusEntry& entry = page_->entry[page_->entries_used++];
    entry.state = static_cast<std::uint32_t>(state);
    entry.via = static_cast<std::uint32_t>(via);
    return entry;
  }

 private:
  window::UniqueFd fd_;
  layout::StatusPage* page_;
};

inline layout::StatusAddress ipv4(std::uint8_t last, std::uint16_t port) {
  return {2 /* AF_INET */, port, {10, 77, 0, last}};
}

}  // namespace shunt::cli
