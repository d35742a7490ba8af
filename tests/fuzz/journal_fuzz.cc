// The journal's file. A damaged one is never taken for an empty one: what is read is what was
// written, all of it, or the journal is unavailable and says why.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "server/journal/sqlite_journal.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

using journal::Change;
using journal::Contents;
using journal::SqliteJournal;

// In memory, where the machine has that.
const std::string& Directory() {
  static const std::string* const path = [] {
    std::string name =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm/tsc-fuzz-XXXXXX" : "/tmp/tsc-fuzz-XXXXXX";
    FUZZ_CHECK(mkdtemp(name.data()) != nullptr);
    std::atexit([] { std::filesystem::remove_all(Directory()); });
    return new std::string(name);
  }();
  return *path;
}

std::string Fresh() {
  std::filesystem::remove_all(Directory());
  mkdir(Directory().c_str(), 0700);
  return Directory() + "/journal.db";
}

std::string Read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

journal::HandoffRecord Record(int number) {
  journal::HandoffRecord record;
  record.vm_id = "vm" + std::to_string(number);
  record.ticket.handoff_id = "handoff-" + std::to_string(number);
  record.ticket.epoch = 1 + static_cast<uint64_t>(number);
  record.answer = std::string(static_cast<size_t>(number) * 700, 'a');
  record.begun_at_ns = record.changed_at_ns = 1'700'000'000'000'000'000;
  return record;
}

// A journal with so many handoffs, as its file.
std::string FileWith(int handoffs) {
  const std::string path = Fresh();
  {
    auto journal = SqliteJournal::Open(path);
    FUZZ_CHECK(journal.ok());
    for (int i = 0; i < handoffs; ++i) {
      Change change;
      change.handoff = Record(i);
      change.vm.emplace();
      change.vm->vm_id = change.handoff->vm_id;
      change.vm->highest_epoch = 7;
      FUZZ_CHECK((*journal)->Write(change).ok());
    }
  }
  return Read(path);
}

}  // namespace

std::vector<std::string> Seeds() { return {FileWith(0), FileWith(1), FileWith(12)}; }

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff::fuzz;  // NOLINT: a target is one function
  const std::string path = Fresh();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  std::string first_agent;
  size_t first_handoffs = 0;
  bool was_good = false;
  for (int time = 0; time < 2; ++time) {
    auto journal = SqliteJournal::Open(path);
    if (!journal.ok()) {
      FUZZ_CHECK(!was_good);
      return 0;
    }
    auto contents = (*journal)->Load();
    FUZZ_CHECK(contents.ok() == (*journal)->unavailable_reason().empty());
    // Once damaged, always damaged: the next start must not find an empty file in its place.
    if (time > 0) FUZZ_CHECK(contents.ok() == was_good);
    if (contents.ok() && time > 0) {
      FUZZ_CHECK((*journal)->agent_id() == first_agent);
      FUZZ_CHECK(contents->handoffs.size() == first_handoffs);
    }
    was_good = contents.ok();
    first_agent = (*journal)->agent_id();
    if (contents.ok()) {
      first_handoffs = contents->handoffs.size();
      for (const auto& record : contents->handoffs) FUZZ_CHECK(!record.ticket.handoff_id.empty());
    }
  }
  return 0;
}
