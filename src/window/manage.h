// Makes and removes a window: `shunt window create` and `shunt window destroy`.
//
// create is all or nothing: when a step fails, what was made before it is removed again. destroy
// removes only what create and the drivers make, and refuses while a driver lives. Everything is
// allocated at creation (posix_fallocate), so that a full tmpfs shows now and not as a SIGBUS later.
//
// Errors: WindowError, with a text for a person. Thread safety: none needed; two processes that
// create one window at once: one of them fails.
#pragma once

#include <string>

#include "wire/partition_table.h"

namespace shunt::window {

// `dir` must not exist, or be an empty directory.
void create_window(const std::string& dir, const wire::PartitionTable& table);

void destroy_window(const std::string& dir);

}  // namespace shunt::window
