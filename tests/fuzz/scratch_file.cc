#include "tests/fuzz/scratch_file.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {

const std::string& ScratchFile() {
  static const std::string* const path = [] {
    const char* const memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    // Not by the process's number: tests in sandboxes have the same ones.
    auto* made = new std::string(std::string(memory) + "/tsc-fuzz-XXXXXX");
    const int file = mkstemp(made->data());
    FUZZ_CHECK(file >= 0);
    close(file);
    std::atexit([] { unlink(ScratchFile().c_str()); });
    return made;
  }();
  return *path;
}

void WriteScratchFile(const std::string& content) {
  std::ofstream file(ScratchFile(), std::ios::binary);
  file << content;
  FUZZ_CHECK(file.flush().good());
}

std::string ReadScratchFile() {
  std::ostringstream out;
  out << std::ifstream(ScratchFile(), std::ios::binary).rdbuf();
  return out.str();
}

}  // namespace tsc_handoff::fuzz
