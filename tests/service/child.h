// Child: a process started by a test, with its stdin and stdout; killed when it goes out of scope.
//
// Not thread-safe.
#ifndef TSC_HANDOFF_TESTS_SERVICE_CHILD_H_
#define TSC_HANDOFF_TESTS_SERVICE_CHILD_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff {

class Child {
 public:
  // `arguments[0]` is the program, relative to the test's working directory. Fails the test if it
  // cannot be started.
  explicit Child(const std::vector<std::string>& arguments);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  // The next line of stdout without its end; what came so far when stdout ended or kPatience is
  // over.
  std::string ReadLine();
  // Sends SIGKILL and waits.
  void Kill();
  // Waits for the end: exit status, or minus the signal's number.
  int Wait();

 private:
  pid_t pid_ = -1;
  UniqueFd stdin_;
  UniqueFd stdout_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_TESTS_SERVICE_CHILD_H_
