// The address of a PCI function, as sysfs writes it: DDDD:BB:DD.F.
//
// Thread safety: any. Errors: none.
#pragma once

#include <optional>
#include <string>

namespace shunt::window {

// "0000:00:04.0", or without the domain; nullopt: no PCI address. What stands here becomes a path, so
// every character counts.
std::optional<std::string> pci_address(std::string text);

}  // namespace shunt::window
