#include "cli/program_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "cli/failure.h"
#include "cli/file.h"

namespace shunt::cli {
namespace {

constexpr char kCannotRun[] = "cannot run";
constexpr int kMaxInterpreters = 5;         // as the kernel: a script's interpreter may be a script
constexpr std::size_t kMaxFirstLine = 256;  // BINPRM_BUF_SIZE
constexpr std::size_t kMaxHeaders = 512;
constexpr std::size_t kMaxLoaderPath = 4096;

#if defined(__x86_64__)
constexpr std::uint16_t kMachine = EM_X86_64;
constexpr char kMachineName[] = "64-bit x86";
#elif defined(__aarch64__)
constexpr std::uint16_t kMachine = EM_AARCH64;
constexpr char kMachineName[] = "64-bit ARM";
#else
#error "name this machine's ELF number"
#endif

[[noreturn]] void refuse(const std::string& path, std::string_view why, std::string_view remedy) {
  throw Failure(kStatusCannotRun, kCannotRun, path, why, remedy);
}

// 0: an executable regular file. EACCES: it is there and not executable. EPERM: a directory on the way
// may not be searched, so nobody knows. EISDIR, or what stat(2) says.
int executable(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return errno == EACCES ? EPERM : errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (!S_ISREG(info.st_mode) || access(path.c_str(), X_OK) != 0) return EACCES;
  return 0;
}

[[noreturn]] void fail_to_find(const std::string& path, int error) {
  if (error == EISDIR) refuse(path, "it is a directory", "name a program");
  if (error == EACCES)
    refuse(path, "it is not executable", "check its mode (chmod +x) and its mount");
  if (error == EPERM) refuse(path, "a directory on the way may not be searched", "check its mode");
  throw Failure(
      kStatusNoProgram, kCannotRun, path,
      error == ENOENT || error == ENOTDIR ? "there is no such file" : std::strerror(error),
      "check the path");
}

// The loader drops LD_PRELOAD from programs that change their user, group or capabilities.
void check_privileges(const File& file, const std::string& path) {
  constexpr char kRemedy[] = "run it without Shunt, or a copy without that mark";
  struct stat info {};
  if (fstat(file.fd(), &info) != 0) refuse(path, std::strerror(errno), "check the file");
  if ((info.st_mode & S_ISUID) != 0) {
    refuse(path, "it is a setuid program, and the loader drops the provider from those", kRemedy);
  }
  if ((info.st_mode & S_ISGID) != 0 && (info.st_mode & S_IXGRP) != 0) {
    refuse(path, "it is a setgid program, and the loader drops the provider from those", kRemedy);
  }
  if (fgetxattr(file.fd(), "security.capability", nullptr, 0) > 0) {
    refuse(path, "it has file capabilities, and the loader drops the provider from such programs",
           kRemedy);
  }
}

// The path in PT_INTERP; nullopt: none, the program is static.
std::optional<std::string> loader_of(const File& file, const Elf64_Ehdr& header) {
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return std::nullopt;
  for (std::size_t i = 0; i < header.e_phnum && i < kMaxHeaders; ++i) {
    Elf64_Phdr part{};
    if (!file.read_at(header.e_phoff + i * sizeof part, &part, sizeof part)) return std::nullopt;
    if (part.p_type != PT_INTERP || part.p_filesz > kMaxLoaderPath) continue;
    std::string loader(part.p_filesz, '\0');
    if (!file.read_at(part.p_offset, loader.data(), loader.size())) return std::nullopt;
    loader.resize(std::strlen(loader.c_str()));
    return loader;
  }
  return std::nullopt;
}

void check_elf(const File& file, const std::string& path) {
  Elf64_Ehdr header{};
  if (!file.read_at(0, &header, sizeof header) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != kMachine) {
    refuse(path,
           fmt::format("it is built for another machine than this provider ({})", kMachineName),
           "use a build of the program for this machine");
  }
  const std::optional<std::string> loader = loader_of(file, header);
  if (!loader) {
    refuse(path, "it is statically linked: no loader runs that could load the provider",
           "use a dynamically linked build");
  }
  if (executable(*loader) != 0) {
    refuse(path, fmt::format("its loader {} is missing", *loader), "install its C library");
  }
  if (loader->find("/ld-musl") != std::string::npos) {
    refuse(path, "it is built for musl, and the provider needs glibc", "use a build for glibc");
  }
}

// "#! /bin/sh -e" -> "/bin/sh"
std::string interpreter_of(std::string_view first_line) {
  constexpr std::string_view kBlank = " \t";
  first_line = first_line.substr(2, first_line.find('\n') - 2);
  const std::size_t start = first_line.find_first_not_of(kBlank);
  if (start == std::string_view::npos) return {};
  first_line.remove_prefix(start);
  return std::string(first_line.substr(0, first_line.find_first_of(" \t\r")));
}

void check_file(const std::string& path, int depth) {
  const File file(path);
  // A program that may be run but not read can only be tried.
  if (!file.ok()) return;
  std::string start(kMaxFirstLine, '\0');
  start.resize(file.read_some(0, start.data(), start.size()));
  if (start.starts_with(ELFMAG)) {
    check_privileges(file, path);
    check_elf(file, path);
  } else if (start.starts_with("#!")) {  // set-user-ID means nothing on a script
    const std::string interpreter = interpreter_of(start);
    const int error = executable(interpreter);
    if (error != 0) {
      refuse(path,
             fmt::format("its interpreter '{}' (first line) {}", interpreter,
                         error == EACCES || error == EISDIR ? "is not executable" : "is missing"),
             "install the interpreter, or correct the #! line");
    }
    if (depth == kMaxInterpreters)
      refuse(path, "too many nested interpreters", "shorten the chain");
    check_file(interpreter, depth + 1);
  }
}

}  // namespace

std::string find_program(const std::string& name, const char* path) {
  if (name.find('/') != std::string::npos) {
    if (const int error = executable(name); error != 0) fail_to_find(name, error);
    return name;
  }
  std::string_view rest = path != nullptr ? path : "/bin:/usr/bin";
  std::string denied;
  for (bool more = !name.empty(); more;) {
    const std::size_t colon = rest.find(':');
    const std::string folder(rest.substr(0, colon));
    std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    const int error = executable(candidate);
    if (error == 0) return candidate;
    if (error == EACCES && denied.empty()) denied = std::move(candidate);
    more = colon != std::string_view::npos;
    if (more) rest.remove_prefix(colon + 1);
  }
  if (!denied.empty()) fail_to_find(denied, EACCES);
  throw Failure(kStatusNoProgram, kCannotRun, name,
                "no directory in PATH has a program of that name",
                "check the name, install it, or give its path");
}

void check_program(const std::string& path) { check_file(path, 0); }

}  // namespace shunt::cli
