// OnBehalfOf: whose work this thread is doing, in words, for the log of what is done to other
// processes. Set where a call comes in, read where something is worth a line; between the two
// nobody needs to pass it on.
//
// Threading: each thread has its own.
#ifndef TSC_HANDOFF_SERVER_BASE_ON_BEHALF_OF_H_
#define TSC_HANDOFF_SERVER_BASE_ON_BEHALF_OF_H_

#include <string>

namespace tsc_handoff {

class OnBehalfOf {
 public:
  // For as long as this lives; what was set before comes back afterwards.
  explicit OnBehalfOf(std::string whom);
  ~OnBehalfOf();
  OnBehalfOf(const OnBehalfOf&) = delete;
  OnBehalfOf& operator=(const OnBehalfOf&) = delete;

  // "the agent itself" where nothing was set.
  static const std::string& Current();

 private:
  std::string before_;
};

}  // namespace tsc_handoff

#endif  // TSC_HANDOFF_SERVER_BASE_ON_BEHALF_OF_H_
