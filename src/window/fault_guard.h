// Survives a shared file that shrinks under its mapping.
//
// Reading a page behind the end of a mapped file raises SIGBUS, and whoever owns a section can
// truncate it at any time. For a guarded mapping the handler puts a page of zeros there and the read
// goes on: the reader's own checks do the rest. SIGBUS anywhere else keeps its usual effect.
//
// Thread safety: guard/unguard from any thread. At most kGuardedMappings mappings at a time; one
// more is simply not guarded.
#pragma once

#include <cstddef>

namespace shunt::window {

inline constexpr std::size_t kGuardedMappings = 256;

void guard_mapping(void* memory, std::size_t bytes);  // installs the handler when first called
void unguard_mapping(void* memory);

}  // namespace shunt::window
