#include "server/host/host_facts.h"

#include <sys/utsname.h>
#include <cerrno>
#include <cstring>

#include <chrono>
#include <fstream>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/vmm/tsc_kvm.h"
#include "server/host/tsc_monotonic.h"

namespace tsc_handoff::host {
namespace {

// Start-up shall not wait long for the look at every CPU.
constexpr std::chrono::milliseconds kMonotonicBudget{25};
constexpr size_t kUuidLength = 36;

// What of /proc/cpuinfo matters. The CPUs of a host agree in these.
struct CpuFlags {
  bool readable = false;
  uint32_t frac_bits = 0;
};

std::optional<std::string> FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  absl::StripAsciiWhitespace(&line);
  return line;
}

// Stops at the first CPU: producing the text of all takes the kernel long on a large host.
CpuFlags ReadCpuFlags(const std::string& path) {
  CpuFlags result;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() != 2 || absl::StripAsciiWhitespace(parts[0]) != "flags") continue;
    result.readable = true;
    for (absl::string_view flag : absl::StrSplit(parts[1], ' ', absl::SkipWhitespace())) {
      if (flag == "vmx") result.frac_bits = 48;
      if (flag == "svm") result.frac_bits = 32;
    }
    break;
  }
  return result;
}

// "01234567-89ab-cdef-0123-456789abcdef" as 16 bytes; empty when it is anything else.
std::string ParseUuid(const std::string& text) {
  if (text.size() != kUuidLength) return "";
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash != (text[i] == '-')) return "";
    if (dash) continue;
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(text[i]))) return "";
    digits.push_back(text[i]);
  }
  return absl::HexStringToBytes(digits);
}

std::string TscProblem(const HostPaths& paths, const CpuFlags& cpu) {
  const std::optional<std::string> clocksource = FirstLine(paths.clocksource);
  if (!clocksource.has_value()) {
    return absl::StrCat("the kernel's clocksource cannot be read from ", paths.clocksource,
                        "; mount /sys, or run the agent where it is visible");
  }
  if (*clocksource != "tsc") {
    return absl::StrCat("the kernel's clocksource is \"", *clocksource,
                        "\", not \"tsc\"; see the kernel log for why the TSC was given up");
  }
  if (!cpu.readable) {
    return absl::StrCat("no CPU flags can be read from ", paths.cpuinfo,
                        "; mount /proc, or run the agent where it is visible");
  }
  return MonotonicAcrossCpus(kMonotonicBudget);
}

std::string OpenProblem(const std::string& path, int error) {
  std::string what = absl::StrCat(path, " cannot be opened: ", strerror(error));
  switch (error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      return absl::StrCat(
          what, "; load kvm_intel or kvm_amd, and switch virtualisation on in the firmware");
    case EACCES:
    case EPERM:
      return absl::StrCat(
          what, "; put the agent's user into the group kvm, or allow the device in its container");
    default:
      return what;
  }
}

std::string KvmProblem(const std::string& path, const tsc_kvm_host& kvm) {
  constexpr const char* kSteps[] = {"", "", "KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_GET_TSC_KHZ"};
  if (kvm.failed_step == 1) return OpenProblem(path, kvm.error);
  if (kvm.failed_step == 2 && kvm.error == ENOTTY)
    return absl::StrCat(path, " is not KVM's device; correct the path");
  if (kvm.failed_step != 0) {
    return absl::StrCat(kSteps[kvm.failed_step < 5 ? kvm.failed_step : 0], " on ", path,
                        " failed: ", strerror(kvm.error), "; see the kernel log");
  }
  if (kvm.vcpu_attributes == 0) {
    return "this kernel's KVM cannot set a vCPU's TSC offset (no KVM_CAP_VCPU_ATTRIBUTES); use "
           "Linux 5.16 or later";
  }
  return "";
}

}  // namespace

HostFacts ReadHostFacts(const HostPaths& paths) {
  HostFacts facts;
  utsname names = {};
  if (uname(&names) == 0) {
    facts.host_name = names.nodename;
    facts.kernel_release = names.release;
  }
  facts.boot_id = ParseUuid(FirstLine(paths.boot_id).value_or(""));
  const CpuFlags cpu = ReadCpuFlags(paths.cpuinfo);
  facts.tsc_unstable_reason = TscProblem(paths, cpu);
  tsc_kvm_host kvm;
  tsc_kvm_probe_host(paths.kvm.c_str(), &kvm);
  facts.kvm_unavailable_reason = KvmProblem(paths.kvm, kvm);
  if (facts.kvm_unavailable_reason.empty()) {
    facts.tsc.host_khz = kvm.tsc_khz;
    facts.tsc.can_scale = kvm.tsc_control != 0;
    facts.tsc.frac_bits = cpu.frac_bits;
  }
  return facts;
}

}  // namespace tsc_handoff::host
