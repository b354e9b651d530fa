// What `shunt run` gives to the program: where the provider is, and the environment that loads it.
//
// find_provider reads the file system; the rest is pure. Errors: Failure with status 125.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shunt::cli {

// libshunt.so: `override_path` (SHUNT_LIBRARY) if not null, else the first that exists of
// `executable`/../lib and the install directories. An absolute path that LD_PRELOAD can carry.
std::string find_provider(const char* override_path, const std::string& executable);

// `provider` first, then what `old_value` (may be null) named, without a second mention of it.
std::string preload_value(const std::string& provider, const char* old_value);

}  // namespace shunt::cli
