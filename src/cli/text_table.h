// A table for people: columns as wide as their widest cell, two spaces between, numbers to the right.
//
// Pure. Thread safety: as any value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shunt::cli {

class TextTable {
 public:
  // A heading that begins with '>' is a column aligned to the right.
  explicit TextTable(const std::vector<std::string>& headings);

  void add(std::vector<std::string> cells);  // as many as headings
  bool empty() const { return rows_.size() == 1; }
  std::string str() const;  // every line indented by two spaces and ended with a newline

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// 0 B, 999 B, 1.5 KiB, 12.0 MiB, ...
std::string bytes_text(std::uint64_t bytes);

}  // namespace shunt::cli
