#include "tests/guest/kernel_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void kernel_line_of(const char* path, char* line, size_t size) {
  line[0] = '\0';
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t got = read(fd, line, size - 1);
  close(fd);
  line[got > 0 ? got : 0] = '\0';
  line[strcspn(line, "\n")] = '\0';
}

// The kernel's words: "Marking TSC unstable due to ..." and "... Marking clocksource 'tsc' as
// unstable ...". The latter also for tsc-early, which is another clock source.
static bool says_unstable(const char* text) {
  return strstr(text, "Marking TSC unstable") != NULL ||
         strstr(text, "clocksource 'tsc' as unstable") != NULL ||
         strstr(text, "marking tsc unstable") != NULL;
}

void kernel_unstable_line(char* line, size_t size) {
  line[0] = '\0';
  const int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  char record[2048];
  for (;;) {
    const ssize_t got = read(fd, record, sizeof(record) - 1);
    if (got < 0 && errno == EPIPE) continue;  // overwritten meanwhile; the next one is there
    if (got <= 0) break;
    record[got] = '\0';
    const char* text = strchr(record, ';');
    if (text == NULL || !says_unstable(text)) continue;
    snprintf(line, size, "%.*s", (int)strcspn(text + 1, "\n"), text + 1);
  }
  close(fd);
}

static int open_msr(int cpu, int flags) {
  char path[64];
  snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
  return open(path, flags | O_CLOEXEC);
}

bool kernel_read_msr(int cpu, uint32_t msr, uint64_t* value) {
  const int fd = open_msr(cpu, O_RDONLY);
  if (fd < 0) return false;
  const bool done = pread(fd, value, sizeof(*value), msr) == sizeof(*value);
  close(fd);
  return done;
}

bool kernel_add_to_msr(int cpu, uint32_t msr, uint64_t addend) {
  uint64_t value;
  if (!kernel_read_msr(cpu, msr, &value)) return false;
  value += addend;
  const int fd = open_msr(cpu, O_WRONLY);
  if (fd < 0) return false;
  const bool done = pwrite(fd, &value, sizeof(value), msr) == sizeof(value);
  close(fd);
  return done;
}
