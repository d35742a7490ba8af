// Attaches to a VMM and does what a test asks for, for tests on nodes with a stock QEMU.
//
//     attach_probe PID read [COUNT]      captures COUNT times (default 1)
//     attach_probe PID move TICKS [ID]   captures, applies every offset plus TICKS, captures; or
//     that
//                                        of vCPU ID only
//     attach_probe PID paused            whether the VM is paused
//
// $ALLOW_SECCOMP_FILTER, set to anything: attaches in spite of a seccomp filter.
//
// $AT and $RUN: at the failpoint $AT runs the shell command $RUN, once; there $PPID is this
// process.
//
// Prints one JSON object: vcpus (id, offset_ticks, khz), before and after of a move, stop_us of
// each operation, how many captures differed from the first one, how many descriptors this process
// has more than before; or `error` with reason, text and refusal, and exit status 1.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/attach/attached_port.h"
#include "server/attach/target.h"
#include "server/base/error.h"

// So a test makes things happen in the middle.
extern "C" void tsc_handoff_failpoint(const char* name) {
  static int passes = 0;
  const char* const at = getenv("AT");
  const char* const pass = getenv("PASS");
  if (at == nullptr || strcmp(at, name) != 0) return;
  if (++passes != (pass == nullptr ? 1 : atoi(pass))) return;
  // NOLINTNEXTLINE(cert-env33-c): whoever calls this program says what it is to run
  if (system(getenv("RUN")) != 0) abort();
}

namespace tsc_handoff {
namespace {

using attach::AttachedPort;
using attach::AttachedVm;

// A busy machine under emulation may keep a node waiting for longer than an agent would.
constexpr absl::Duration kTimeout = absl::Seconds(10);

// The one VM of a process.
absl::StatusOr<AttachedVm> FindVm(const attach::Target& target) {
  constexpr char kVcpu[] = "anon_inode:kvm-vcpu:";
  AttachedVm vm;
  vm.vm_id = "probed";
  auto descriptors = target.List("fd");
  if (!descriptors.ok()) return descriptors.status();
  for (int fd : *descriptors) {
    auto link = target.ReadLink(absl::StrCat("fd/", fd));
    if (!link.ok()) continue;
    uint32_t id = 0;
    if (*link == "anon_inode:kvm-vm") vm.vm_fd = fd;
    if (absl::StartsWith(*link, kVcpu) && absl::SimpleAtoi(link->substr(sizeof(kVcpu) - 1), &id)) {
      vm.vcpus.push_back({id, fd});
    }
  }
  std::sort(vm.vcpus.begin(), vm.vcpus.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return vm;
}

std::string Json(const std::vector<tsc_vcpu_state>& states) {
  return absl::StrCat("[",
                      absl::StrJoin(states, ",",
                                    [](std::string* out, const tsc_vcpu_state& state) {
                                      absl::StrAppend(out, "{\"id\":", state.vcpu_id,
                                                      ",\"offset_ticks\":", state.tsc_offset_ticks,
                                                      ",\"khz\":", state.tsc_khz, "}");
                                    }),
                      "]");
}

int Fail(const absl::Status& status) {
  const std::optional<Reason> reason = ReasonOf(status);
  Metadata metadata = MetadataOf(status);
  std::string text(status.message());
  for (char& c : text) {
    if (c == '"' || c == '\\' || c == '\n') c = '\'';
  }
  printf("{\"error\":\"%s\",\"reason\":\"%s\",\"refusal\":\"%s\"}\n", text.c_str(),
         reason ? std::string(ReasonName(*reason)).c_str() : "", metadata["refusal"].c_str());
  return 1;
}

int64_t OwnDescriptors() {
  auto self = attach::Target::Open(getpid());
  auto descriptors = self.ok() ? self->List("fd") : self.status();
  return descriptors.ok() ? static_cast<int64_t>(descriptors->size()) : -1;
}

int Read(AttachedPort& port, int count) {
  const int64_t descriptors = OwnDescriptors();
  std::vector<int64_t> stops;
  std::vector<tsc_vcpu_state> vcpus;
  int differing = 0;
  for (int i = 0; i < count; ++i) {
    auto capture = port.ReadAll(port::Hold::kNo);
    if (!capture.ok()) return Fail(capture.status());
    if (i == 0) vcpus = capture->vcpus;
    if (Json(vcpus) != Json(capture->vcpus)) ++differing;
    stops.push_back(absl::ToInt64Microseconds(port.last_stop()));
  }
  printf("{\"vcpus\":%s,\"stop_us\":[%s],\"differing\":%d,\"leaked\":%ld}\n", Json(vcpus).c_str(),
         absl::StrJoin(stops, ",").c_str(), differing,
         static_cast<long>(OwnDescriptors() - descriptors));
  return 0;
}

// `id` is below 0: all.
int Move(AttachedPort& port, int64_t ticks, int64_t id) {
  auto capture = port.ReadAll(port::Hold::kNo);
  if (!capture.ok()) return Fail(capture.status());
  port::ApplyOrder order = {};
  order.vcpus = capture->vcpus;
  for (tsc_vcpu_state& vcpu : order.vcpus) {
    if (id < 0 || vcpu.vcpu_id == id) vcpu.tsc_offset_ticks += static_cast<uint64_t>(ticks);
  }
  auto applied = port.WriteAll(order, port::Hold::kNo);
  if (!applied.ok()) return Fail(applied.status());
  const int64_t stop_us = absl::ToInt64Microseconds(port.last_stop());
  auto again = port.ReadAll(port::Hold::kNo);
  if (!again.ok()) return Fail(again.status());
  printf("{\"before\":%s,\"after\":%s,\"vcpus\":%s,\"stop_us\":[%s]}\n",
         Json(applied->before).c_str(), Json(applied->after).c_str(), Json(again->vcpus).c_str(),
         absl::StrCat(stop_us).c_str());
  return 0;
}

int Main(int argc, char** argv) {
  int pid = 0;
  if (argc < 3 || !absl::SimpleAtoi(argv[1], &pid)) {
    fprintf(stderr, "usage: attach_probe PID read [COUNT] | move TICKS [ID] | paused\n");
    return 2;
  }
  auto target = attach::Target::Open(pid);
  if (!target.ok()) return Fail(target.status());
  auto vm = FindVm(*target);
  if (!vm.ok()) return Fail(vm.status());
  attach::AttachedPortOptions options;
  options.policy.allow_seccomp_filter = getenv("ALLOW_SECCOMP_FILTER") != nullptr;
  options.timeout = kTimeout;
  AttachedPort port(*std::move(target), *std::move(vm), options);
  const std::string what = argv[2];
  const int64_t number = argc > 3 ? atoll(argv[3]) : 1;
  if (what == "read") return Read(port, static_cast<int>(number));
  if (what == "move") return Move(port, number, argc > 4 ? atoll(argv[4]) : -1);
  auto paused = port.IsPaused();
  if (!paused.ok()) return Fail(paused.status());
  printf("{\"paused\":%s}\n", *paused ? "true" : "false");
  return 0;
}

}  // namespace
}  // namespace tsc_handoff

int main(int argc, char** argv) { return tsc_handoff::Main(argc, argv); }
