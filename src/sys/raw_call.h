// The only raw system calls. They return the kernel's answer (>= 0, or -errno) and never touch errno:
// inside a host program errno is the program's. They do not go through libc's symbols either, which
// the provider interposes itself.
//
// Thread safety and signal safety: as the calls themselves; no state.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace shunt::sys {

inline long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <typename T>
long arg(T* p) {
  return reinterpret_cast<long>(p);
}

}  // namespace shunt::sys
