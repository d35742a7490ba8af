// Vocabulary: command lines made of a program's own words, because a fuzzer would be long in
// finding "--require-probe" by itself.
//
// Threading: immutable after construction.
#ifndef TSC_HANDOFF_TESTS_FUZZ_VOCABULARY_H_
#define TSC_HANDOFF_TESTS_FUZZ_VOCABULARY_H_

#include <functional>
#include <string>
#include <vector>

#include "tests/fuzz/bytes.h"

namespace CLI {
class App;
}

namespace tsc_handoff::fuzz {

class Vocabulary {
 public:
  // `describe` shows the program's definition: its commands, its options, and the words that an
  // option's type names ("table|json") are taken from it. `values` are words for the rest.
  Vocabulary(const std::function<void(const std::function<void(const CLI::App&)>&)>& describe,
             const std::vector<std::string>& values);

  // A command line: a byte for a word that is known, or for one that the input spells out.
  std::vector<std::string> Take(Bytes& bytes) const;

  // The input from which Take makes these words.
  std::string Spell(const std::vector<std::string>& words) const;

 private:
  void Learn(const CLI::App& app);

  std::vector<std::string> words_;
};

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_VOCABULARY_H_
