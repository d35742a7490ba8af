// Smoke test of the emulated VMX machine: does kvm-intel here scale the TSC, and does what the
// guest reads with RDTSC obey  guest = (host * ratio >> frac_bits) + offset?  Prints key=value
// lines; exits 0 only if everything holds. The guest is real-mode code that stores its RDTSC into a
// page shared with this process and stops at an OUT; the host brackets each KVM_RUN with two
// RDTSCs, so the expected value is known to within that bracket.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum {
  kVcpus = 2,
  kRounds = 20,
  kCodeAddress = 0x1000,
  kResultAddress = 0x2000,
  kMemoryBytes = 0x10000
};

// rdtsc; mov [0x2000],eax; mov [0x2004],edx; out 0x10,al; jmp start
static const uint8_t kGuestCode[] = {0x0f, 0x31, 0x66, 0xa3, 0x00, 0x20, 0x66, 0x89,
                                     0x16, 0x04, 0x20, 0xe6, 0x10, 0xeb, 0xf1};

static int failures = 0;

__attribute__((format(printf, 2, 3))) static void Expect(int condition, const char* format, ...) {
  if (condition) return;
  va_list arguments;
  va_start(arguments, format);
  printf("FAILED: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  failures++;
}

static int Checked(int result, const char* what) {
  if (result >= 0) return result;
  perror(what);
  exit(2);
}

static void PrintFile(const char* key, const char* path) {
  char line[128] = "";
  FILE* file = fopen(path, "r");
  if (file != NULL) {
    if (fgets(line, sizeof line, file) == NULL) line[0] = '\0';
    fclose(file);
  }
  line[strcspn(line, "\n")] = '\0';
  printf("%s=%s\n", key, file != NULL ? line : "unreadable");
}

static int64_t GetOffset(int vcpu) {
  int64_t offset = 0;
  struct kvm_device_attr attribute = {.group = KVM_VCPU_TSC_CTRL,
                                      .attr = KVM_VCPU_TSC_OFFSET,
                                      .addr = (uint64_t)(uintptr_t)&offset};
  Checked(ioctl(vcpu, KVM_GET_DEVICE_ATTR, &attribute), "KVM_GET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)");
  return offset;
}

static void SetOffset(int vcpu, int64_t offset) {
  struct kvm_device_attr attribute = {.group = KVM_VCPU_TSC_CTRL,
                                      .attr = KVM_VCPU_TSC_OFFSET,
                                      .addr = (uint64_t)(uintptr_t)&offset};
  Checked(ioctl(vcpu, KVM_SET_DEVICE_ATTR, &attribute), "KVM_SET_DEVICE_ATTR(KVM_VCPU_TSC_OFFSET)");
}

static uint32_t ClockFlags(int vm) {
  struct kvm_clock_data clock = {0};
  Checked(ioctl(vm, KVM_GET_CLOCK, &clock), "KVM_GET_CLOCK");
  return clock.flags;
}

static void PrepareGuest(int vcpu) {
  struct kvm_sregs segments;
  Checked(ioctl(vcpu, KVM_GET_SREGS, &segments), "KVM_GET_SREGS");
  segments.cs.base = 0;
  segments.cs.selector = 0;
  Checked(ioctl(vcpu, KVM_SET_SREGS, &segments), "KVM_SET_SREGS");
  struct kvm_regs registers = {.rip = kCodeAddress, .rflags = 2};
  Checked(ioctl(vcpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
}

// Runs the guest kRounds times; true if every RDTSC of it lies where the equation says.
static void CheckGuestTsc(int vcpu, const struct kvm_run* run, const uint8_t* memory,
                          uint64_t ratio, int64_t offset) {
  uint64_t narrowest_ticks = UINT64_MAX;
  for (int round = 0; round < kRounds; round++) {
    uint64_t before = __rdtsc();
    Checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    uint64_t after = __rdtsc();
    if (run->exit_reason != KVM_EXIT_IO) {
      Expect(0, "exit reason %u instead of KVM_EXIT_IO", run->exit_reason);
      return;
    }
    uint64_t guest;
    memcpy(&guest, memory + kResultAddress, sizeof guest);
    uint64_t low = (uint64_t)(((unsigned __int128)before * ratio) >> 48) + (uint64_t)offset;
    uint64_t high = (uint64_t)(((unsigned __int128)after * ratio) >> 48) + (uint64_t)offset;
    Expect(low <= guest && guest <= high, "guest TSC %llu is outside [%llu, %llu]",
           (unsigned long long)guest, (unsigned long long)low, (unsigned long long)high);
    if (high - low < narrowest_ticks) narrowest_ticks = high - low;
  }
  printf("guest_tsc_bracket_ticks=%llu\n", (unsigned long long)narrowest_ticks);
}

static int64_t ElapsedNs(struct timespec from, struct timespec to) {
  return (to.tv_sec - from.tv_sec) * 1000000000LL + (to.tv_nsec - from.tv_nsec);
}

// The TSC against a clock that the kernel derives from it, and the cost of an ioctl: shows how time
// runs here.
static void PrintTimes(int vcpu) {
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC_RAW, &start);
  uint64_t start_tsc = __rdtsc();
  for (int i = 0; i < 1000; i++) GetOffset(vcpu);
  uint64_t end_tsc = __rdtsc();
  clock_gettime(CLOCK_MONOTONIC_RAW, &end);
  int64_t elapsed_ns = ElapsedNs(start, end);
  printf("get_offset_ns=%lld\n", (long long)(elapsed_ns / 1000));
  printf("measured_khz=%llu\n", (unsigned long long)((unsigned __int128)(end_tsc - start_tsc) *
                                                     1000000 / (uint64_t)elapsed_ns));
}

int main(void) {
  PrintFile("current_clocksource",
            "/sys/devices/system/clocksource/clocksource0/current_clocksource");
  int kvm = Checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "open /dev/kvm");
  int tsc_control = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL);
  printf("KVM_CAP_TSC_CONTROL=%d\n", tsc_control);
  Expect(tsc_control == 1,
         "no TSC scaling: the CPU model or its VMX controls are not what this test needs");

  int vm = Checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  printf("KVM_CAP_ADJUST_CLOCK=0x%x\n", ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK));
  uint8_t* memory =
      mmap(NULL, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(memory + kCodeAddress, kGuestCode, sizeof kGuestCode);
  struct kvm_userspace_memory_region region = {.memory_size = kMemoryBytes,
                                               .userspace_addr = (uint64_t)(uintptr_t)memory};
  Checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  int run_bytes = Checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");

  int vcpus[kVcpus];
  struct kvm_run* runs[kVcpus];
  int host_khz = 0;
  for (int i = 0; i < kVcpus; i++) {
    vcpus[i] = Checked(ioctl(vm, KVM_CREATE_VCPU, i), "KVM_CREATE_VCPU");
    runs[i] = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpus[i], 0);
    host_khz = Checked(ioctl(vcpus[i], KVM_GET_TSC_KHZ, 0), "KVM_GET_TSC_KHZ");
    Checked(ioctl(vcpus[i], KVM_SET_TSC_KHZ, host_khz / 2), "KVM_SET_TSC_KHZ(half)");
    int khz = ioctl(vcpus[i], KVM_GET_TSC_KHZ, 0);
    Expect(khz == host_khz / 2, "KVM_GET_TSC_KHZ gives %d after setting %d", khz, host_khz / 2);
    PrepareGuest(vcpus[i]);
    printf("vcpu%d_first_offset=%lld\n", i, (long long)GetOffset(vcpus[i]));
  }
  printf("host_khz=%d\n", host_khz);
  PrintTimes(vcpus[0]);
  uint64_t ratio = (uint64_t)(((unsigned __int128)(host_khz / 2) << 48) / (unsigned)host_khz);
  printf("expected_ratio=%llu\n", (unsigned long long)ratio);
  char path[96];
  snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%d-%d/vcpu0/tsc-scaling-ratio", getpid(), vm);
  PrintFile("debugfs_ratio", path);
  snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%d-%d/vcpu0/tsc-scaling-ratio-frac-bits",
           getpid(), vm);
  PrintFile("debugfs_frac_bits", path);

  const int64_t offset = -123456789;
  printf("clock_flags_before_run=0x%x\n", ClockFlags(vm));
  for (int i = 0; i < kVcpus; i++) {
    SetOffset(vcpus[i], offset);
    int64_t got = GetOffset(vcpus[i]);
    Expect(got == offset, "offset of vCPU %d reads %lld after writing %lld", i, (long long)got,
           (long long)offset);
    CheckGuestTsc(vcpus[i], runs[i], memory, ratio, offset);
  }
  printf("clock_flags_equal_offsets=0x%x\n", ClockFlags(vm));
  SetOffset(vcpus[1], offset + 35000);
  CheckGuestTsc(vcpus[1], runs[1], memory, ratio, offset + 35000);
  printf("clock_flags_unequal_offsets=0x%x\n", ClockFlags(vm));
  printf("probe: %s\n", failures == 0 ? "everything holds" : "FAILED");
  return failures == 0 ? 0 : 1;
}
