// Becoming and starting other programs: connections that they inherit are downgraded first.
//
// Everything is async-signal-safe as far as libc's function of the name is, and may be called in a vfork child.
// What a file action of posix_spawn copies is not known to be inherited from its flags, so it is downgraded
// when the action is made.
#include <alloca.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/call.h"
#include "preload/libc.h"
#include "sockets/holders/inherit.h"

namespace shunt::preload {
namespace {

// `call` starts another program. Should it return, this one goes on with what was kept back from the other.
template <typename Call>
auto starting(Call call) {
  sockets::KeptBack kept;
  sockets::downgrade_inherited(&kept);
  const auto result = call();
  const int saved = errno;
  sockets::release_kept(kept);
  errno = saved;
  return result;
}

}  // namespace
}  // namespace shunt::preload

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT int execve(const char* path, char* const arguments[],
                        char* const environment[]) noexcept {
  return starting([&] { return libc().execve(path, arguments, environment); });
}
SHUNT_EXPORT int execv(const char* path, char* const arguments[]) noexcept {
  return starting([&] { return libc().execv(path, arguments); });
}
SHUNT_EXPORT int execvp(const char* file, char* const arguments[]) noexcept {
  return starting([&] { return libc().execvp(file, arguments); });
}
SHUNT_EXPORT int execvpe(const char* file, char* const arguments[],
                         char* const environment[]) noexcept {
  return starting([&] { return libc().execvpe(file, arguments, environment); });
}
SHUNT_EXPORT int fexecve(int fd, char* const arguments[], char* const environment[]) noexcept {
  return starting([&] { return libc().fexecve(fd, arguments, environment); });
}
SHUNT_EXPORT int execveat(int directory, const char* path, char* const arguments[],
                          char* const environment[], int flags) noexcept {
  return starting([&] { return libc().execveat(directory, path, arguments, environment, flags); });
}

// The arguments of a variadic call as an array on the stack, as libc has it: no allocation. `call` uses
// `arguments` and, behind them, `list`.
#define SHUNT_EXEC_LIST(name, call)                                            \
  SHUNT_EXPORT int name(const char* path, const char* first, ...) noexcept {   \
    va_list list;                                                              \
    va_start(list, first);                                                     \
    size_t count = 1;                                                          \
    for (const char* a = first; a != nullptr; a = va_arg(list, const char*)) { \
      if (count++ == INT_MAX) {                                                \
        va_end(list);                                                          \
        return finish(-E2BIG);                                                 \
      }                                                                        \
    }                                                                          \
    va_end(list);                                                              \
    auto** arguments = static_cast<char**>(alloca(count * sizeof(char*)));     \
    va_start(list, first);                                                     \
    arguments[0] = const_cast<char*>(first);                                   \
    for (size_t i = 1; i < count; ++i) arguments[i] = va_arg(list, char*);     \
    const int r = starting([&] { return call; });                              \
    va_end(list);                                                              \
    return r;                                                                  \
  }
SHUNT_EXEC_LIST(execl, libc().execv(path, arguments))
SHUNT_EXEC_LIST(execlp, libc().execvp(path, arguments))
SHUNT_EXEC_LIST(execle, libc().execve(path, arguments, va_arg(list, char**)))
#undef SHUNT_EXEC_LIST

SHUNT_EXPORT int posix_spawn(pid_t* pid, const char* path,
                             const posix_spawn_file_actions_t* actions,
                             const posix_spawnattr_t* attributes, char* const arguments[],
                             char* const environment[]) {
  return starting(
      [&] { return libc().posix_spawn(pid, path, actions, attributes, arguments, environment); });
}
SHUNT_EXPORT int posix_spawnp(pid_t* pid, const char* file,
                              const posix_spawn_file_actions_t* actions,
                              const posix_spawnattr_t* attributes, char* const arguments[],
                              char* const environment[]) {
  return starting(
      [&] { return libc().posix_spawnp(pid, file, actions, attributes, arguments, environment); });
}
SHUNT_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* actions, int from,
                                                  int to) noexcept {
  const long r = sockets::downgrade_for_passing(from);
  if (r != 0) return static_cast<int>(-r);  // the number itself, as this function returns errors
  return libc().posix_spawn_file_actions_adddup2(actions, from, to);
}

SHUNT_EXPORT int system(const char* command) {
  if (command == nullptr) return libc().system(command);
  return starting([&] { return libc().system(command); });
}
SHUNT_EXPORT FILE* popen(const char* command, const char* mode) {
  return starting([&] { return libc().popen(command, mode); });
}
