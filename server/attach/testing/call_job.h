// A job of plain system calls, and what became of them. For tests.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TESTING_CALL_JOB_H_
#define TSC_HANDOFF_SERVER_ATTACH_TESTING_CALL_JOB_H_

#include <cstddef>
#include <cstring>
#include <vector>

#include "server/attach/job.h"

namespace tsc_handoff::attach {

inline std::vector<std::byte> CallJob(const std::vector<attach_call>& calls, size_t room = 0) {
  attach_job head = {};
  head.kind = ATTACH_JOB_CALLS;
  head.count = static_cast<uint32_t>(calls.size());
  std::vector<std::byte> job(sizeof(head) + calls.size() * sizeof(attach_call) + room);
  std::memcpy(job.data(), &head, sizeof(head));
  std::byte* to = job.data() + sizeof(head);
  for (const attach_call& call : calls) {
    std::memcpy(to, &call, sizeof(call));
    to += sizeof(call);
  }
  return job;
}

inline attach_job HeadOf(const std::vector<std::byte>& job) {
  attach_job head;
  std::memcpy(&head, job.data(), sizeof(head));
  return head;
}

inline int64_t ResultOf(const std::vector<std::byte>& job, size_t i) {
  attach_call call;
  std::memcpy(&call, job.data() + sizeof(attach_job) + i * sizeof(call), sizeof(call));
  return call.result;
}

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_TESTING_CALL_JOB_H_
