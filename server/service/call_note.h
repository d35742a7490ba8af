// What a call was about, for the audit: the handlers note it as they learn it.
#ifndef TSC_HANDOFF_SERVER_SERVICE_CALL_NOTE_H_
#define TSC_HANDOFF_SERVER_SERVICE_CALL_NOTE_H_

#include <cstdint>
#include <string>

namespace tsc_handoff::service {

struct CallNote {
  std::string vm_id = {};
  std::string handoff_id = {};
  uint64_t epoch = 0;
  std::string state_sha256 = {};  // of the state's payload, in hexadecimal
};

}  // namespace tsc_handoff::service

#endif  // TSC_HANDOFF_SERVER_SERVICE_CALL_NOTE_H_
