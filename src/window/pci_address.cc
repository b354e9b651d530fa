#include "window/pci_address.h"

#include <cctype>
#include <string_view>

namespace shunt::window {

std::optional<std::string> pci_address(std::string text) {
  constexpr std::string_view kForm = "hhhh:hh:hh.o";  // hexadecimal, octal
  if (text.size() == kForm.size() - 5) text.insert(0, "0000:");
  if (text.size() != kForm.size()) return std::nullopt;
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const char c = text[i];
    const bool fits = kForm[i] == 'h'   ? std::isxdigit(static_cast<unsigned char>(c)) != 0
                      : kForm[i] == 'o' ? c >= '0' && c <= '7'
                                        : c == kForm[i];
    if (!fits) return std::nullopt;
    text[i] = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

}  // namespace shunt::window
