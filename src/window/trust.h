// Who could put another window in the place of one, or change it?
//
// Programs and drivers trust a window's owner. So a window is made and used only where nobody else but root and the
// caller can exchange it: the directory belongs to one of them, others cannot write it, and of the directories above
// it none can be written by everybody, unless it is sticky (as /tmp is).
//
// Thread safety: no shared state. Errors: WindowError.
#pragma once

#include <string>

namespace shunt::window {

// Of the directory of a window that is there; what is not there is for whoever opens it to say.
void require_trusted_directory(const std::string& dir);

// Of a directory that is to become a window, and may be there already.
void require_trusted_place(const std::string& dir);

}  // namespace shunt::window
