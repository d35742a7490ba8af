#include "server/port/descriptor_check.h"

#include <linux/kvm.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::port {
namespace {

constexpr size_t kPage = 4096;
// A vCPU's mapping: its kvm_run, the PIO page, and the coalesced-MMIO ring, which is the VM's.
// (Linux, virt/kvm/kvm_main.c, kvm_vcpu_fault.)
constexpr off_t kCoalescedMmioPage = 2;
static_assert(KVM_COALESCED_MMIO_PAGE_OFFSET == kCoalescedMmioPage);

// The ring's entries do not fill its page: these last bytes are the kernel's never, so a mark there
// disturbs nobody. (KVM_COALESCED_MMIO_MAX, computed here since a C++ compiler gives the ring's
// empty struct a size.)
constexpr size_t kRingHead =
    sizeof(kvm_coalesced_mmio_ring::first) + sizeof(kvm_coalesced_mmio_ring::last);
constexpr size_t kRingBytes =
    kRingHead + (kPage - kRingHead) / sizeof(kvm_coalesced_mmio) * sizeof(kvm_coalesced_mmio);
constexpr size_t kMarkOffset = kPage - sizeof(uint64_t);
static_assert(kRingBytes <= kMarkOffset);

std::string NameOf(int fd) {
  char target[128];
  const ssize_t length =
      readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), target, sizeof(target));
  return length > 0 ? std::string(target, static_cast<size_t>(length)) : std::string();
}

// The VM's own page, seen through one of its vCPUs.
class VmPage {
 public:
  explicit VmPage(int vcpu_fd)
      : page_(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
                   kCoalescedMmioPage * kPage)) {}
  VmPage(const VmPage&) = delete;
  VmPage& operator=(const VmPage&) = delete;
  ~VmPage() {
    if (mapped()) munmap(page_, kPage);
  }
  bool mapped() const { return page_ != MAP_FAILED; }
  volatile uint64_t& mark() const {
    return *reinterpret_cast<volatile uint64_t*>(static_cast<char*>(page_) + kMarkOffset);
  }

 private:
  void* const page_;
};

absl::Status CheckSameVm(const std::vector<uint32_t>& ids, const std::vector<UniqueFd>& vcpus) {
  const VmPage first(vcpus.front().get());
  if (!first.mapped()) {
    return absl::InvalidArgumentError(
        absl::StrCat("vCPU ", ids.front(), " cannot be mapped: ", strerror(errno)));
  }
  std::random_device random;
  const uint64_t before = first.mark();
  const uint64_t mark = (uint64_t{random()} << 32) | random() | 1;
  first.mark() = mark;
  absl::Status status;
  for (size_t i = 1; i < vcpus.size() && status.ok(); ++i) {
    const VmPage other(vcpus[i].get());
    if (!other.mapped() || other.mark() != mark) {
      status = absl::InvalidArgumentError(
          absl::StrCat("the vCPUs ", ids.front(), " and ", ids[i], " do not belong to one VM"));
    }
  }
  first.mark() = before;
  return status;
}

}  // namespace

absl::Status KvmDescriptorCheck::Check(const UniqueFd& vm, const std::vector<uint32_t>& ids,
                                       const std::vector<UniqueFd>& vcpus) {
  if (const std::string name = NameOf(vm.get()); name != "anon_inode:kvm-vm") {
    return absl::InvalidArgumentError(
        absl::StrCat("the VM descriptor is \"", name, "\", not a KVM VM"));
  }
  for (size_t i = 0; i < vcpus.size(); ++i) {
    const std::string wanted = absl::StrCat("anon_inode:kvm-vcpu:", ids[i]);
    if (const std::string name = NameOf(vcpus[i].get()); name != wanted) {
      return absl::InvalidArgumentError(absl::StrCat("the descriptor of vCPU ", ids[i], " is \"",
                                                     name, "\", not \"", wanted, "\""));
    }
  }
  return CheckSameVm(ids, vcpus);
}

}  // namespace tsc_handoff::port
