#include "tests/fuzz/vocabulary.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

// The two bytes before it choose a known word below this, and above it say the length of another.
constexpr uint16_t kSpelt = 0x8000;
constexpr size_t kMostWords = 24;
constexpr size_t kLongest = 300;

}  // namespace

Vocabulary::Vocabulary(
    const std::function<void(const std::function<void(const CLI::App&)>&)>& describe,
    const std::vector<std::string>& values)
    : words_(values) {
  describe([this](const CLI::App& app) { Learn(app); });
  std::sort(words_.begin(), words_.end());
  words_.erase(std::unique(words_.begin(), words_.end()), words_.end());
  FUZZ_CHECK(!words_.empty() && words_.size() < kSpelt);
}

void Vocabulary::Learn(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words_.push_back("--" + name);
    for (const std::string& name : option->get_snames()) words_.push_back("-" + name);
    if (!absl::StrContains(option->get_type_name(), "|")) continue;
    for (const absl::string_view word : absl::StrSplit(option->get_type_name(), '|'))
      words_.emplace_back(word);
  }
  for (const CLI::App* command : app.get_subcommands({})) {
    words_.push_back(command->get_name());
    Learn(*command);
  }
}

std::vector<std::string> Vocabulary::Take(Bytes& bytes) const {
  std::vector<std::string> words;
  while (!bytes.empty() && words.size() < kMostWords) {
    const auto choice = bytes.Take<uint16_t>();
    words.push_back(choice < kSpelt ? words_[choice % words_.size()]
                                    : bytes.TakeString((choice - kSpelt) % kLongest));
  }
  return words;
}

std::string Vocabulary::Spell(const std::vector<std::string>& words) const {
  std::string out;
  for (const std::string& word : words) {
    const auto known = std::lower_bound(words_.begin(), words_.end(), word);
    const bool is_known = known != words_.end() && *known == word;
    const auto choice = static_cast<uint16_t>(is_known ? static_cast<size_t>(known - words_.begin())
                                                       : kSpelt + word.size());
    out.append(reinterpret_cast<const char*>(&choice), sizeof(choice));
    if (!is_known) out += word;
  }
  return out;
}

}  // namespace tsc_handoff::fuzz
