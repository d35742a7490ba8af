// A file for each input, where a parser wants a path: in memory, where the machine has that, and
// gone when the program ends.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_FUZZ_SCRATCH_FILE_H_
#define TSC_HANDOFF_TESTS_FUZZ_SCRATCH_FILE_H_

#include <string>

namespace tsc_handoff::fuzz {

// Its path; the same in every call.
const std::string& ScratchFile();

// What it holds from now on.
void WriteScratchFile(const std::string& content);
std::string ReadScratchFile();

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_SCRATCH_FILE_H_
