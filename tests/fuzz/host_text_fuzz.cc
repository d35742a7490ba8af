// What this host's /proc and debugfs say of other people's processes, who choose some of it: their
// command lines, the names of their threads and of what they map. And the header in which callers
// name their trace. What is taken from it is in the form that the rest of the agent relies on.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/attach/proc_text.h"
#include "server/attach/refusal.h"
#include "server/base/trace.h"
#include "server/discovery/kvm_processes.h"
#include "server/discovery/vm_id_rule.h"
#include "server/observe/tsc_view.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

enum Kind : uint8_t {
  kStatus = 0,
  kSyscall = 1,
  kMaps = 2,
  kCommandLine = 3,
  kNames = 4,
  kOffsets = 5,
  kTrace = 6,
  kKinds = 7
};

bool IsVmId(const std::string& id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::StrContains("._:-", absl::string_view(&c, 1));
  });
}

void TryStatus(const std::string& text) {
  const auto status = attach::ParseStatus(text);
  if (!status.has_value()) return;
  FUZZ_CHECK(status->tgid > 0 && status->inner_tgid > 0 && status->inner_tid > 0);
  for (const bool allow : {false, true}) {
    const auto refusal = attach::WhyNotBorrow(*status, {.allow_seccomp_filter = allow});
    FUZZ_CHECK(!refusal.has_value() || (!refusal->word.empty() && !refusal->sentence.empty()));
    // Who is traced by another is nobody's to borrow.
    FUZZ_CHECK(status->tracer_pid == 0 || refusal.has_value());
  }
  const auto signal = attach::ReportSignal(*status);
  if (!signal.has_value()) return;
  const uint64_t bit = uint64_t{1} << (*signal - 1);
  FUZZ_CHECK((status->caught & bit) == 0);
  FUZZ_CHECK((attach::MaskWhileBorrowed(status->blocked, *signal) & bit) == 0);
}

void TrySyscall(const std::string& text) {
  const auto found = attach::ParseSyscall(text);
  if (!found.has_value() || found->running || found->number < 0) return;
  // Written again, it is read again.
  std::string line = absl::StrCat(found->number);
  for (const uint64_t arg : found->args) absl::StrAppend(&line, " 0x", absl::Hex(arg));
  const auto again = attach::ParseSyscall(line + " 0x7ffd 0x7f00\n");
  FUZZ_CHECK(again.has_value() && again->number == found->number && again->args == found->args);
}

void TryMaps(const std::string& text) {
  for (const attach::Mapping& mapping : attach::ParseMaps(text)) {
    FUZZ_CHECK(mapping.start < mapping.end);
    FUZZ_CHECK(!absl::StrContains(mapping.name, "\n"));
  }
}

void TryCommandLine(Bytes& bytes) {
  static const auto* const rule =
      new discovery::VmIdRule(*discovery::VmIdRule::Create("--vm[ =](\\S+)"));
  const std::string line = bytes.TakeRest();
  const std::vector<std::string> words = discovery::SplitCommandLine(line);
  std::string joined = absl::StrJoin(words, std::string(1, '\0'));
  FUZZ_CHECK(joined == line || joined + std::string(1, '\0') == line);
  for (const auto& id : {discovery::QemuVmId(words), rule->VmIdOf(words)})
    FUZZ_CHECK(!id.has_value() || IsVmId(*id));
}

void TryNames(const std::string& text) {
  (void)discovery::ParseStartTime(text);
  const discovery::KvmDescriptor descriptor = discovery::ParseDescriptor(text);
  if (descriptor.kind == discovery::KvmDescriptor::Kind::kVcpu)
    FUZZ_CHECK(absl::StartsWith(text, "anon_inode:kvm-vcpu:"));
  if (const auto vm = observe::ParseVmName(text)) {
    FUZZ_CHECK(vm->pid >= 0 && vm->fd >= 0);
    FUZZ_CHECK(observe::ParseVmName(absl::StrCat(vm->pid, "-", vm->fd)) == vm);
  }
  if (const auto vcpu = observe::ParseVcpuName(text))
    FUZZ_CHECK(observe::ParseVcpuName(absl::StrCat("vcpu", *vcpu)) == vcpu);
  if (const auto ticks = observe::ParseTicks(text)) {
    FUZZ_CHECK(observe::ParseTicks(absl::StrCat(*ticks, "\n")) == ticks);
    FUZZ_CHECK(observe::ParseTicks(absl::StrCat(static_cast<int64_t>(*ticks), "\n")) == ticks);
  }
}

void TryOffsets(Bytes& bytes) {
  observe::VmView vm;
  uint32_t id = 0;
  while (!bytes.empty() && vm.vcpus.size() < 64) {
    observe::VcpuView vcpu;
    vcpu.id = id++;
    vcpu.offset_ticks = bytes.Take<uint64_t>();
    const auto has = bytes.Take<uint8_t>();
    if (has % 2 == 1) vcpu.ratio = bytes.Take<uint64_t>();
    if (has % 4 > 1) vcpu.ratio_frac_bits = bytes.Take<uint8_t>();
    vm.vcpus.push_back(vcpu);
  }
  (void)observe::IsScaled(vm);
  const uint64_t spread = observe::PhaseSpreadTicks(vm);
  FUZZ_CHECK(!observe::IsInPhase(vm) || spread == 0);
  // What all move by together changes nothing.
  observe::VmView moved = vm;
  for (observe::VcpuView& vcpu : moved.vcpus) vcpu.offset_ticks += uint64_t{1} << 63;
  FUZZ_CHECK(observe::PhaseSpreadTicks(moved) == spread);
  FUZZ_CHECK(observe::CompareViews({{{1, 2}, vm}}, {{{1, 2}, moved}}).empty());
}

void TryTrace(const std::string& text) {
  const absl::string_view id = TraceIdOf(text);
  FUZZ_CHECK(id.empty() || id.size() == 32);
  for (const char c : id)
    FUZZ_CHECK(absl::StrContains("0123456789abcdef", absl::string_view(&c, 1)));
  const TraceScope scope(text);
  FUZZ_CHECK(TraceScope::Current().empty() == id.empty());
}

std::string Input(Kind kind, const std::string& rest) {
  return std::string(1, static_cast<char>(kind)) + rest;
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string status =
      "Name:\tqemu-system-x86\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nPid:\t4712\n"
      "TracerPid:\t0\nUid:\t64055\t64055\t64055\t64055\nNStgid:\t4711\t12\nNSpid:\t4712\t13\n"
      "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000010002240\n"
      "SigIgn:\t0000000000001000\nSigCgt:\t0000000180004243\nSeccomp:\t0\n";
  const std::string nul(1, '\0');
  return {
      Input(kStatus, status),
      Input(kStatus, status.substr(0, 200)),
      Input(kSyscall, "16 0xe 0xae80 0x0 0x0 0x0 0x0 0x7f0c33ffe5c8 0x7f0c3d0f1b7b\n"),
      Input(kSyscall, "running\n"),
      Input(kSyscall, "-1 0x7ffd 0x7f\n"),
      Input(kMaps,
            "55d0c0a00000-55d0c0e5b000 r-xp 00000000 fd:01 393217   /usr/bin/qemu (deleted)\n"
            "7ffd0e5f5000-7ffd0e616000 rw-p 00000000 00:00 0   [stack]\n"
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"),
      Input(kCommandLine, "qemu" + nul + "-name" + nul + "guest=web-1,debug-threads=on" + nul),
      Input(kCommandLine, "qemu" + nul + "-name" + nul + "a,,b" + nul + "-uuid" + nul +
                              "8f5ed9c4-0000-4000-8000-000000000001" + nul),
      Input(kCommandLine, "vmm" + nul + "--vm" + nul + "db-1"),
      Input(kNames, "anon_inode:kvm-vcpu:3"),
      Input(kNames, "anon_inode:kvm-vm"),
      Input(kNames, "4711-12"),
      Input(kNames, "vcpu17"),
      Input(kNames, "-9223372036854775808\n"),
      Input(kNames,
            "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 3 0 123456 0 0"),
      Input(kOffsets, std::string(8, '\x10') + "\x03" + std::string(8, '\1') + "\x30" +
                          std::string(8, '\xff') + nul),
      // A shift by 200 bits.
      Input(kOffsets, std::string(8, '\x10') + "\x03" + std::string(8, '\1') + "\xc8"),
      Input(kTrace, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
      Input(kTrace, "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
  };
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tsc_handoff::fuzz;  // NOLINT: a target is one function
  Bytes bytes(data, size);
  const uint8_t kind = bytes.Take<uint8_t>() % kKinds;
  if (kind == kOffsets) {
    TryOffsets(bytes);
  } else if (kind == kCommandLine) {
    TryCommandLine(bytes);
  } else {
    const std::string text = bytes.TakeRest();
    if (kind == kStatus) TryStatus(text);
    if (kind == kSyscall) TrySyscall(text);
    if (kind == kMaps) TryMaps(text);
    if (kind == kNames) TryNames(text);
    if (kind == kTrace) TryTrace(text);
  }
  return 0;
}
