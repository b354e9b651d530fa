// The options of a test program. CLI11 behind a narrow door: it is all in headers, and takes a compiler twenty
// seconds for each file that looks at it.
//
// Values keep their defaults where an option is not given. Wrong words: a message, and exit status as CLI11 has it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace shunt::test {

class Options {
 public:
  explicit Options(const std::string& about);
  ~Options();
  Options(Options&&) noexcept;

  // A subcommand: one of them must be given, unless or_none() says otherwise.
  Options command(const std::string& name, const std::string& about);
  void or_none();
  bool given() const;  // of a subcommand, after parse()

  // std::string, std::vector<std::string>, int, unsigned, std::uint16_t, std::uint64_t, double.
  template <typename T>
  void value(const std::string& name, T& value, const std::string& about, bool required = false);
  template <typename T>  // int, std::uint64_t
  void between(std::type_identity_t<T> least, std::type_identity_t<T> most, const std::string& name,
               T& value, const std::string& about);
  void one_of(const std::string& name, std::string& value, const std::string& about,
              std::initializer_list<const char*> words);
  void flag(const std::string& name, bool& value, const std::string& about);

  // Does not return if the words are wrong, or ask for help.
  void parse(int argc, char** argv);

 private:
  struct Impl;
  explicit Options(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shunt::test
