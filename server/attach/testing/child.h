// A process to be attached to: it does one thing, over and over, until it is told to stop, and then
// says whether it found everything as it has to be. For tests.
//
// Threading: of one test's thread.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TESTING_CHILD_H_
#define TSC_HANDOFF_SERVER_ATTACH_TESTING_CHILD_H_

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>

namespace tsc_handoff::attach {

// Memory that the child and the test share.
struct ChildState {
  std::atomic<int> ready;  // the child has begun
  std::atomic<int> stop;   // it shall come to its end
  std::atomic<uint64_t> rounds;
  std::atomic<uint64_t> signals;
  std::atomic<int> tid;  // of a thread other than the first, where there is one
  char failure[256];     // what was not as it has to be
};

// What a child does. It returns whether all was well, and says in `failure` what was not.
using ChildWork = bool (*)(ChildState& state);

class Child {
 public:
  explicit Child(ChildWork work);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // Kills it if it lives.
  ~Child();

  pid_t pid() const { return pid_; }
  ChildState& state() { return *state_; }
  // Its end, after `stop` was set: empty if all was well.
  std::string Finish();
  // Waits until it has ended by itself or by a signal.
  void WaitEnd();

 private:
  ChildState* state_;
  pid_t pid_;
  bool waited_ = false;
};

// Waits for a condition, at most 15 s. Returns whether it came true.
bool WaitFor(const std::function<bool()>& condition);

// All the kinds of work by name. Each waits in another way: "ppoll", "futex", "spin"...
const std::map<std::string, ChildWork>& AllWork();

// What must be the same before and after: the memory map, the descriptors, signal masks and
// handlers.
std::string Fingerprint(pid_t pid);

// Whether it has this fingerprint, or soon will: some things, as the mask in ppoll, come and go.
// Empty, or the first line that differs.
std::string DifferenceFrom(pid_t pid, const std::string& fingerprint);

// The numbers of its descriptors.
std::string Descriptors(pid_t pid);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_TESTING_CHILD_H_
