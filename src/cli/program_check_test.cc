#include "cli/program_check.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "cli/failure.h"
#include "cli/temp_dir_test_util.h"

namespace shunt::cli {
namespace {

constexpr char kLoader[] = "/lib64/ld-linux-x86-64.so.2";

// A program for this machine with one program header; an empty loader makes it a static one.
std::string elf(std::string_view loader, std::uint16_t machine = EM_X86_64,
                unsigned char bits = ELFCLASS64) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = bits;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr part{};
  part.p_type = loader.empty() ? PT_LOAD : PT_INTERP;
  part.p_offset = sizeof header + sizeof part;
  part.p_filesz = loader.size() + 1;
  std::string out(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(reinterpret_cast<const char*>(&part), sizeof part);
  return out.append(loader).append(1, '\0');
}

class ProgramCheckTest : public testing::Test {
 protected:
  // "" when the program is accepted; checks that a refusal is one line with status 126.
  static std::string refusal(const std::string& path) {
    try {
      check_program(path);
      return {};
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status(), kStatusCannotRun);
      EXPECT_EQ(std::string(failure.what()).find('\n'), std::string::npos);
      return failure.what();
    }
  }
  static void expect_refused(const std::string& path, const std::string& because) {
    EXPECT_NE(refusal(path).find(because), std::string::npos) << refusal(path);
  }
  static std::pair<int, std::string> not_found(const std::string& name, const char* path) {
    try {
      return {0, find_program(name, path)};
    } catch (const Failure& failure) {
      return {failure.status(), failure.what()};
    }
  }

  TempDir dir_;
};

TEST_F(ProgramCheckTest, AcceptsOrdinaryPrograms) {
  EXPECT_EQ(refusal("/bin/sh"), "");
  EXPECT_EQ(refusal(dir_.file("p", elf(kLoader), 0755)), "");
  EXPECT_EQ(refusal(dir_.file("s", "#! /bin/sh -e\nexit 0\n", 0755)), "");
  EXPECT_EQ(refusal(dir_.file("t", "no magic: execvp gives it to sh\n", 0755)), "");
}

TEST_F(ProgramCheckTest, RefusesWhatTheLoaderWouldStripOfTheProvider) {
  expect_refused(dir_.file("u", elf(kLoader), 04755), "setuid");
  expect_refused(dir_.file("g", elf(kLoader), 02755), "setgid");
  // Without the group's x bit, the setgid bit means something else.
  EXPECT_EQ(refusal(dir_.file("l", elf(kLoader), 02745)), "");
  // On a script the kernel ignores both.
  EXPECT_EQ(refusal(dir_.file("s", "#!/bin/sh\n", 06755)), "");
}

TEST_F(ProgramCheckTest, RefusesFileCapabilities) {
  const std::string path = dir_.file("c", elf(kLoader), 0755);
  const std::uint32_t revision_2[5] = {0x02000001, 1 << 10, 0, 0, 0};  // cap_net_bind_service=ep
  if (setxattr(path.c_str(), "security.capability", revision_2, sizeof revision_2, 0) != 0) {
    GTEST_SKIP() << "may not set file capabilities here";
  }
  expect_refused(path, "capabilities");
}

TEST_F(ProgramCheckTest, RefusesStaticAndForeignPrograms) {
  expect_refused(dir_.file("static", elf(""), 0755), "statically linked");
  expect_refused(dir_.file("arm", elf(kLoader, EM_AARCH64), 0755), "another machine");
  expect_refused(dir_.file("i386", elf(kLoader, EM_386, ELFCLASS32), 0755), "another machine");
  expect_refused(dir_.file("noloader", elf("/lib64/ld-none.so.9"), 0755), "is missing");
  dir_.file("ld-musl-x86_64.so.1", "", 0755);
  expect_refused(dir_.file("musl", elf(dir_.path() + "/ld-musl-x86_64.so.1"), 0755), "musl");
}

TEST_F(ProgramCheckTest, SurvivesDamagedElf) {
  expect_refused(dir_.file("short", "\177ELF", 0755), "another machine");
  std::string cut = elf(kLoader);
  cut.resize(sizeof(Elf64_Ehdr) + 8);
  expect_refused(dir_.file("cut", cut, 0755), "statically linked");
  std::string huge = elf(kLoader);
  auto* part = reinterpret_cast<Elf64_Phdr*>(huge.data() + sizeof(Elf64_Ehdr));
  part->p_filesz = std::uint64_t{1} << 60;
  expect_refused(dir_.file("huge", huge, 0755), "statically linked");
}

TEST_F(ProgramCheckTest, FollowsInterpreters) {
  expect_refused(dir_.file("a", "#!/no/such/interpreter -x\n", 0755), "is missing");
  expect_refused(dir_.file("b", "#!\n", 0755), "is missing");
  expect_refused(dir_.file("c", "#!" + dir_.file("plain", "x", 0644) + "\n", 0755),
                 "not executable");
  const std::string inner = dir_.file("inner", elf(""), 0755);
  expect_refused(dir_.file("d", "#!" + inner + " arg\n", 0755), "statically linked");
  const std::string loop = dir_.path() + "/loop";
  expect_refused(dir_.file("loop", "#!" + loop + "\n", 0755), "too many");
}

TEST_F(ProgramCheckTest, FindsProgramsAsExecvpDoes) {
  const std::string first = dir_.file("program", "", 0755);
  EXPECT_EQ(find_program("program", ("/nowhere:" + dir_.path()).c_str()), first);
  EXPECT_EQ(find_program(first, nullptr), first);
  EXPECT_EQ(find_program("sh", nullptr), "/bin/sh");
}

TEST_F(ProgramCheckTest, SaysWhyAProgramIsNotFound) {
  EXPECT_EQ(not_found("no-such-program", dir_.path().c_str()).first, kStatusNoProgram);
  EXPECT_EQ(not_found("", dir_.path().c_str()).first, kStatusNoProgram);
  EXPECT_EQ(not_found(dir_.path() + "/none", nullptr).first, kStatusNoProgram);
  EXPECT_EQ(not_found(dir_.path(), nullptr).first, kStatusCannotRun);
  const std::string plain = dir_.file("plain", "", 0644);
  EXPECT_EQ(not_found(plain, nullptr).first, kStatusCannotRun);
  EXPECT_EQ(not_found("plain", dir_.path().c_str()).first, kStatusCannotRun);
  EXPECT_NE(not_found("plain", dir_.path().c_str()).second.find("not executable"),
            std::string::npos);
}

}  // namespace
}  // namespace shunt::cli
