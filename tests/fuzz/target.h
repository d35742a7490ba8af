// What every fuzz target defines.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_FUZZ_TARGET_H_
#define TSC_HANDOFF_TESTS_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tsc_handoff::fuzz {

// Inputs that are valid, or nearly: where a fuzzer begins. The same ones each time. Inputs with
// which something was found once are among them.
std::vector<std::string> Seeds();

}  // namespace tsc_handoff::fuzz

// libFuzzer's: takes any bytes. What must hold is checked with FUZZ_CHECK. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Ends the program with the condition's text, in every build.
#define FUZZ_CHECK(condition)                                                         \
  do {                                                                                \
    if (!(condition)) tsc_handoff::fuzz::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

namespace tsc_handoff::fuzz {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_TARGET_H_
