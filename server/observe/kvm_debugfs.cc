#include "server/observe/kvm_debugfs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

namespace tsc_handoff::observe {
namespace {

namespace fs = std::filesystem;

constexpr int kAttempts = 3;

std::optional<uint64_t> ReadTicks(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return ParseTicks(text.str());
}

VmView ReadOnce(const std::string& directory) {
  VmView out;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::optional<uint32_t> id = ParseVcpuName(entry->path().filename().string());
    if (!id) continue;
    const std::optional<uint64_t> offset = ReadTicks(entry->path() / "tsc-offset");
    if (!offset) continue;
    VcpuView vcpu = {*id, *offset, ReadTicks(entry->path() / "tsc-scaling-ratio"), std::nullopt};
    const std::optional<uint64_t> bits = ReadTicks(entry->path() / "tsc-scaling-ratio-frac-bits");
    if (bits && *bits < 64) vcpu.ratio_frac_bits = static_cast<uint32_t>(*bits);
    out.vcpus.push_back(vcpu);
  }
  std::sort(out.vcpus.begin(), out.vcpus.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return out;
}

}  // namespace

VmView ReadVmView(const std::string& directory) {
  VmView last = ReadOnce(directory);
  for (int attempt = 1; attempt < kAttempts; ++attempt) {
    VmView again = ReadOnce(directory);
    if (again == last) return again;
    last = std::move(again);
  }
  last.steady = false;
  return last;
}

HostView ReadHostView(const std::string& root) {
  HostView out;
  std::error_code error;
  for (fs::directory_iterator entry(root, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::optional<VmKey> key = ParseVmName(entry->path().filename().string());
    if (!key) continue;
    VmView vm = ReadVmView(entry->path().string());
    if (!vm.vcpus.empty()) out[*key] = std::move(vm);
  }
  return out;
}

}  // namespace tsc_handoff::observe
