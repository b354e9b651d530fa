// Finds the program that `shunt run` shall start, and tells beforehand whether the dynamic loader
// would take the provider into it. What the loader ignores silently would otherwise look like a
// program that runs under Shunt and does not.
//
// Reads files only. Thread safety: none needed. Errors: Failure with status 126 or 127.
#pragma once

#include <string>

namespace shunt::cli {

// As execvp(3) looks: a name with a slash is a path, others are looked up in `path` (the value of
// PATH; nullptr: the system's default). Returns the path of an executable regular file.
std::string find_program(const std::string& name, const char* path);

// Refuses what the loader would start without the provider or the kernel would not start at all:
// setuid, setgid and capability programs, static programs, other machines, other C libraries, and
// scripts whose interpreter is missing or is one of these.
void check_program(const std::string& path);

}  // namespace shunt::cli
