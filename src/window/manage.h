// Makes and removes a window in a directory: `shunt window create` and `shunt window destroy`; for
// devices device_format.h.
//
// create is all or nothing: when a step fails, what was made before it is removed again. destroy
// removes only what create and the drivers make, and refuses while a driver lives. Everything is
// allocated at creation (posix_fallocate), so that a full tmpfs shows now and not as a SIGBUS
// later.
//
// Errors: WindowError, with a text for a person. Thread safety: none needed; two processes that
// create one window at once: one of them fails.
#pragma once

#include <string>

#include "layout/section.h"
#include "wire/partition_table.h"

namespace shunt::window {

// `dir` must not exist, or be an empty directory.
void create_window(const std::string& dir, const wire::PartitionTable& table);

void destroy_window(const std::string& dir);

// What a section of this window says of itself from its making on.
layout::SectionIdentity section_identity(const wire::PartitionTable& table, std::uint32_t number);

}  // namespace shunt::window
