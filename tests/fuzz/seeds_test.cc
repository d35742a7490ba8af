// Every seed, and what becomes of it when it is damaged, goes through the target. This finds what a
// fuzzer finds in its first second; see ./run fuzz for the rest.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"

// Of targets whose inputs are messages; null elsewhere. See message_mutator.h.
extern "C" __attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                                                size_t max_size, unsigned int seed);

namespace tsc_handoff::fuzz {
namespace {

constexpr uint64_t kRandomSeed = 20'260'101;
constexpr int kDamaged = 2000;  // in all

void Feed(const std::string& input) {
  EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size()),
            0);
}

// One of the ways in which bytes go wrong.
void Damage(std::string& input, const std::string& other, std::mt19937_64& random) {
  const auto at = [&random](const std::string& text) { return random() % (text.size() + 1); };
  const size_t place = at(input);
  switch (random() % 7) {
    case 0:
      if (place < input.size()) input[place] ^= static_cast<char>(1 << random() % 8);
      break;
    case 1:
      if (place < input.size())
        input[place] = static_cast<char>("\x00\xff\x7f\x80\x01"[random() % 5]);
      break;
    case 2:
      input.resize(place);
      break;
    case 3:
      input.insert(place, std::string(1 + random() % 8, static_cast<char>(random())));
      break;
    case 4:
      input.erase(place, 1 + random() % 16);
      break;
    case 5:
      input.replace(place, std::string::npos, other.substr(at(other)));
      break;
    default:
      for (size_t i = place; i < std::min(place + 8, input.size()); ++i)
        input[i] = static_cast<char>(random());
  }
}

// As a fuzzer has it done.
void DamageMessage(std::string& input, std::mt19937_64& random) {
  const size_t size = input.size();
  input.resize(size + 4096);
  input.resize(LLVMFuzzerCustomMutator(reinterpret_cast<uint8_t*>(input.data()), size, input.size(),
                                       static_cast<unsigned int>(random())));
}

TEST(Seeds, AreTaken) {
  ASSERT_FALSE(Seeds().empty());
  Feed("");
  for (const std::string& seed : Seeds()) Feed(seed);
}

TEST(Seeds, DoNoHarmWhenDamaged) {
  std::mt19937_64 random(kRandomSeed);
  const std::vector<std::string> seeds = Seeds();
  for (int i = 0; i < kDamaged; ++i) {
    SCOPED_TRACE(testing::Message() << "random seed " << kRandomSeed << ", input " << i);
    std::string input = seeds[static_cast<size_t>(i) % seeds.size()];
    if (LLVMFuzzerCustomMutator != nullptr && i % 4 != 0) DamageMessage(input, random);
    // Of a message that was damaged as one, half stay messages.
    if (LLVMFuzzerCustomMutator != nullptr && i % 2 != 0) {
      Feed(input);
      continue;
    }
    for (uint64_t times = 1 + random() % 4; times > 0; --times)
      Damage(input, seeds[random() % seeds.size()], random);
    Feed(input);
  }
}

}  // namespace
}  // namespace tsc_handoff::fuzz
