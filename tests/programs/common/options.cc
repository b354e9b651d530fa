#include "common/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <set>

namespace shunt::test {

struct Options::Impl {
  std::shared_ptr<CLI::App> root;
  CLI::App* app;  // root, or one of its subcommands
};

Options::Options(const std::string& about) {
  auto root = std::make_shared<CLI::App>(about);
  CLI::App* app = root.get();
  impl_ = std::make_unique<Impl>(Impl{std::move(root), app});
}
Options::Options(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Options::~Options() = default;
Options::Options(Options&&) noexcept = default;

Options Options::command(const std::string& name, const std::string& about) {
  impl_->app->require_subcommand(1);
  return Options(
      std::make_unique<Impl>(Impl{impl_->root, impl_->app->add_subcommand(name, about)}));
}

void Options::or_none() { impl_->app->require_subcommand(0, 1); }
bool Options::given() const { return impl_->app->parsed(); }

template <typename T>
void Options::value(const std::string& name, T& value, const std::string& about, bool required) {
  impl_->app->add_option(name, value, about)->required(required);
}

template <typename T>
void Options::between(std::type_identity_t<T> least, std::type_identity_t<T> most,
                      const std::string& name, T& value, const std::string& about) {
  impl_->app->add_option(name, value, about)->check(CLI::Range(least, most));
}

void Options::one_of(const std::string& name, std::string& value, const std::string& about,
                     std::initializer_list<const char*> words) {
  impl_->app->add_option(name, value, about)
      ->check(CLI::IsMember(std::set<std::string>(words.begin(), words.end())));
}

void Options::flag(const std::string& name, bool& value, const std::string& about) {
  impl_->app->add_flag(name, value, about);
}

void Options::parse(int argc, char** argv) {
  try {
    impl_->app->parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::exit(impl_->app->exit(e));
  }
}

template void Options::value(const std::string&, std::string&, const std::string&, bool);
template void Options::value(const std::string&, std::vector<std::string>&, const std::string&,
                             bool);
template void Options::value(const std::string&, int&, const std::string&, bool);
template void Options::value(const std::string&, unsigned&, const std::string&, bool);
template void Options::value(const std::string&, std::uint16_t&, const std::string&, bool);
template void Options::value(const std::string&, std::uint64_t&, const std::string&, bool);
template void Options::value(const std::string&, double&, const std::string&, bool);
template void Options::between(int, int, const std::string&, int&, const std::string&);
template void Options::between(std::uint64_t, std::uint64_t, const std::string&, std::uint64_t&,
                               const std::string&);

}  // namespace shunt::test
