// Before libFuzzer begins: writes the seeds as files into $TSC_FUZZ_SEEDS, where that is set.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  const char* const directory = std::getenv("TSC_FUZZ_SEEDS");
  if (directory == nullptr) return 0;
  int number = 0;
  for (const std::string& seed : tsc_handoff::fuzz::Seeds()) {
    std::ofstream file(std::string(directory) + "/seed-" + std::to_string(number++),
                       std::ios::binary);
    file << seed;
    if (!file.flush()) {
      std::fprintf(stderr, "cannot write a seed into %s\n", directory);
      std::exit(1);
    }
  }
  return 0;
}
