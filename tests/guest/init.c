// Process 1 of the witness guest: a Linux in a stock QEMU that watches its own TSCs (watch.h) and
// tells on its second serial port what it saw. `NUMBER COMMAND` a line, `>NUMBER` and one JSON
// object back: an asker that did not wait for its answer must not leave it to the next one.
// Commands:
//
//   report            what was seen since the last reset, and what the kernel thinks of its TSC
//   reset             counts from nought
//   move CPU TICKS    moves the TSC of one CPU by writing its IA32_TSC_ADJUST
//   rest MICROSECONDS how long each thread rests between two bursts of reading
//   equal             expects all TSCs equal from now on
//
// Modules to load lie in /modules, in the order of their names.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "tests/guest/kernel_view.h"
#include "tests/guest/watch.h"

#define COMMAND_PORT "/dev/ttyS1"
#define MAX_LINE 256

static void fail(const char* what) {
  printf("guest: %s: %s\n", what, strerror(errno));
  fflush(stdout);
  sync();
  reboot(RB_POWER_OFF);
}

static void mount_all(void) {
  if (mount("proc", "/proc", "proc", 0, NULL) != 0) fail("mount /proc");
  if (mount("sysfs", "/sys", "sysfs", 0, NULL) != 0) fail("mount /sys");
  if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) != 0 && errno != EBUSY) fail("mount /dev");
}

static void load_modules(void) {
  struct dirent** entries;
  const int count = scandir("/modules", &entries, NULL, alphasort);
  for (int i = 0; i < count; ++i) {
    if (entries[i]->d_name[0] == '.') continue;
    char path[300];
    snprintf(path, sizeof(path), "/modules/%s", entries[i]->d_name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) fail(path);
    close(fd);
  }
}

static int open_port(void) {
  const int fd = open(COMMAND_PORT, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) fail(COMMAND_PORT);
  struct termios settings;
  tcgetattr(fd, &settings);
  cfmakeraw(&settings);
  cfsetspeed(&settings, B115200);
  tcsetattr(fd, TCSANOW, &settings);
  return fd;
}

// Printable and without what JSON would have to escape.
static void plain(char* text) {
  for (; *text != '\0'; ++text) {
    if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\') *text = '\'';
  }
}

static void tell_report(FILE* port, int cpus) {
  const struct watch_report seen = watch_read();
  char source[64];
  char available[128];
  char unstable[300];
  kernel_line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
                 sizeof(source));
  kernel_line_of("/sys/devices/system/clocksource/clocksource0/available_clocksource", available,
                 sizeof(available));
  kernel_unstable_line(unstable, sizeof(unstable));
  plain(source);
  plain(available);
  plain(unstable);
  fprintf(port,
          "{\"vcpus\": %d, \"rounds\": %" PRIu64 ", \"rounds_least\": %" PRIu64
          ", \"warps\": %" PRIu64 ", \"warp_largest_ticks\": %" PRIu64
          ", \"backward_steps\": %" PRIu64
          ", \"clocksource\": \"%s\", \"available\": \"%s\", \"unstable\": \"%s\"}\n",
          cpus, seen.rounds, seen.rounds_least, seen.warps, seen.warp_largest_ticks,
          seen.backward_steps, source, available, unstable);
}

struct move {
  int cpu;
  int64_t ticks;
};

static bool add_to_tsc(void* argument) {
  const struct move* move = argument;
  return kernel_add_to_msr(move->cpu, MSR_IA32_TSC_ADJUST, (uint64_t)move->ticks);
}

static void obey(FILE* port, const char* line, int cpus) {
  struct move move;
  uint32_t rest_us;
  if (strcmp(line, "report") == 0) {
    tell_report(port, cpus);
  } else if (strcmp(line, "reset") == 0) {
    watch_reset();
    fprintf(port, "{}\n");
  } else if (strcmp(line, "equal") == 0) {
    watch_expect_equal();
    fprintf(port, "{}\n");
  } else if (sscanf(line, "rest %" SCNu32, &rest_us) == 1) {
    watch_rest(rest_us);
    fprintf(port, "{}\n");
  } else if (sscanf(line, "move %d %" SCNd64, &move.cpu, &move.ticks) == 2 && move.cpu >= 0 &&
             move.cpu < cpus) {
    if (watch_move(move.cpu, move.ticks, add_to_tsc, &move)) {
      fprintf(port, "{}\n");
    } else {
      fprintf(port, "{\"error\": \"IA32_TSC_ADJUST of CPU %d: %s\"}\n", move.cpu, strerror(errno));
    }
  } else {
    fprintf(port, "{\"error\": \"no such command\"}\n");
  }
  fflush(port);
}

int main(void) {
  mount_all();
  load_modules();
  const int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (!watch_start(cpus)) fail("start the threads");
  const int fd = open_port();
  FILE* in = fdopen(fd, "r");
  FILE* out = fdopen(dup(fd), "w");
  char line[MAX_LINE];
  for (;;) {
    if (fgets(line, sizeof(line), in) == NULL) {
      clearerr(in);
      continue;
    }
    line[strcspn(line, "\r\n")] = '\0';
    char* command;
    const unsigned long number = strtoul(line, &command, 10);
    if (command == line || *command != ' ') continue;
    fprintf(out, ">%lu ", number);
    obey(out, command + 1, cpus);
  }
}
