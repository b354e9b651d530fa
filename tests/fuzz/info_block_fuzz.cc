// info_block: the block that a guest's kernel leaves in an NVDIMM's file (window/info_block.h)
//
// Untrusted: the file, which the guest writes, and its size. Asserted: namespace_data() throws a WindowError, or what
// it returns lies inside the file, begins at a page, and is all of the file where there is no block.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>

#include "fuzz/harness.h"
#include "window/error.h"
#include "window/info_block.h"

namespace shunt::fuzz {
namespace {

Mark none("no block");
Mark found("data found");
Mark refused("block refused");

constexpr std::uint64_t kAt = 4096;
constexpr std::array<char, 16> kSignature = {"NVDIMM_DAX_INFO"};
constexpr std::size_t kAtDataOffset = 56;
constexpr std::size_t kAtPages = 64;
constexpr std::size_t kAtStartPad = 76;

using Block = std::array<std::uint8_t, 128>;

void check(int fd, std::uint64_t file_bytes, bool has_block) {
  try {
    const window::NamespaceData data = window::namespace_data(fd, file_bytes, "/w");
    require(data.offset <= file_bytes && data.bytes <= file_bytes - data.offset,
            "the data are in the file");
    require(data.offset % 4096 == 0, "the data begin at a page");
    if (!has_block) {
      require(data.offset == 0 && data.bytes == file_bytes, "all of the file");
      return none.reached();
    }
    require(data.offset != 0 && data.bytes != 0, "the data are behind the block");
    found.reached();
  } catch (const window::WindowError& error) {
    require(has_block, "only a block can be damaged");
    require(std::strlen(error.what()) > 0, "a reason is told");
    refused.reached();
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  return {
      // 64 MiB; data at 2 MiB; all pages, fewer, or padding in front; no signature.
      {1, 0x83, 26, 0x83, 21, 0, 0},        {1, 0x83, 26, 0x83, 21, 0x83, 12, 0},
      {1, 0x83, 26, 0x83, 21, 5, 0x83, 12}, {0, 0x83, 26, 'N', 'V', 'D', 'I', 'M', 'M'},
      {1, 0x83, 26, 0x83, 26, 0, 0},
  };
}

}  // namespace shunt::fuzz

// First byte: whether signature and the three numbers are written, or raw bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shunt::fuzz;
  static const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  Input in(data, size);
  const bool dressed = in.flip();
  // As fstat(2) could tell it.
  const std::uint64_t file_bytes =
      in.number() & static_cast<std::uint64_t>(std::numeric_limits<off_t>::max() - 4096);
  Block block{};
  if (dressed) {
    std::memcpy(block.data(), kSignature.data(), kSignature.size());
    const std::uint64_t offset = in.number();
    const std::uint64_t pages = in.number();
    const auto pad = static_cast<std::uint32_t>(in.number());
    std::memcpy(block.data() + kAtDataOffset, &offset, sizeof offset);
    std::memcpy(block.data() + kAtPages, &pages, sizeof pages);
    std::memcpy(block.data() + kAtStartPad, &pad, sizeof pad);
  }
  in.overlay(block.data() + (dressed ? kSignature.size() + kAtStartPad : 0),
             block.size() - (dressed ? kSignature.size() + kAtStartPad : 0));
  require(ftruncate(fd, 0) == 0 && ftruncate(fd, static_cast<off_t>(file_bytes)) == 0, "a file");
  const std::uint64_t room = file_bytes > kAt ? file_bytes - kAt : 0;
  const std::size_t written = room < block.size() ? room : block.size();
  require(pwrite(fd, block.data(), written, kAt) == static_cast<ssize_t>(written), "a block");
  const bool has_block = written == block.size() &&
                         std::memcmp(block.data(), kSignature.data(), kSignature.size()) == 0;
  check(fd, file_bytes, has_block);
  return 0;
}
