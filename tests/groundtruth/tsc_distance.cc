// Measures how far the TSC of another node is ahead of this node's: the ground truth against which
// error bounds are tested. Two processes, one in each node, play ping-pong through a page of memory
// that both nodes see (the BAR 2 of an ivshmem device). The peer reads its TSC between two reads of
// ours, so every round gives an interval that must hold the true distance; the narrowest one is
// printed as JSON. Single-threaded. Run time is bounded: --seconds, whatever the peer does; a side
// that waits for long naps, so that it does not take the processor from the other one.
// --role=clock needs no peer: it prints one pair of this node's TSC and CLOCK_REALTIME. With the
// pairs of two nodes and their distance follows how far their clocks are really apart.
//
//   node 2: tsc_distance --role=pong --session=7     node 1: tsc_distance --role=ping --session=7

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace {

constexpr size_t kMappedBytes = 4096;
constexpr int kSpinsBeforeNap = 20'000;
constexpr int64_t kNapNs = 50'000;

// In the shared page. One cache line for each direction: the writer of a line is never its reader.
struct Mailbox {
  // (session << 32 | round), round 1 and up. The last round of a session is UINT32_MAX: stop.
  alignas(64) std::atomic<uint64_t> question;
  alignas(64) std::atomic<uint64_t> answer;  // the question that answer_ticks belongs to
  std::atomic<uint64_t> answer_ticks;        // written before `answer`
};
static_assert(sizeof(Mailbox) <= kMappedBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free, "must work between address spaces");

struct Options {
  std::string role;
  uint32_t session = 0;
  uint32_t rounds = 20'000;
  uint32_t seconds = 20;
};

uint64_t ReadTsc() {
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}

int64_t MonotonicNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// Waits until `word` holds what `wanted` accepts, spinning first and napping in between. Returns
// nullopt at the deadline.
template <typename Wanted>
std::optional<uint64_t> WaitFor(const std::atomic<uint64_t>& word, int64_t deadline_ns,
                                Wanted wanted) {
  for (int spins = 1;; ++spins) {
    const uint64_t value = word.load(std::memory_order_acquire);
    if (wanted(value)) return value;
    _mm_pause();
    if (spins % kSpinsBeforeNap != 0) continue;
    if (MonotonicNs() > deadline_ns) return std::nullopt;
    const timespec nap{.tv_sec = 0, .tv_nsec = kNapNs};
    nanosleep(&nap, nullptr);
  }
}

std::string ReadLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Finds the ivshmem device (Red Hat 0x1af4:0x1110), switches its memory on and maps BAR 2.
Mailbox* MapMailbox() {
  for (const auto& entry : std::filesystem::directory_iterator("/sys/bus/pci/devices")) {
    if (ReadLine(entry.path() / "vendor") != "0x1af4") continue;
    if (ReadLine(entry.path() / "device") != "0x1110") continue;
    std::ofstream(entry.path() / "enable") << "1";
    const std::string bar = entry.path() / "resource2";
    const int fd = open(bar.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      std::fprintf(stderr, "tsc_distance: open %s: %s\n", bar.c_str(), std::strerror(errno));
      return nullptr;
    }
    void* page = mmap(nullptr, kMappedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const int mmap_errno = errno;
    close(fd);
    if (page == MAP_FAILED) {
      std::fprintf(stderr, "tsc_distance: mmap %s: %s\n", bar.c_str(), std::strerror(mmap_errno));
      return nullptr;
    }
    return static_cast<Mailbox*>(page);
  }
  std::fprintf(stderr,
               "tsc_distance: no ivshmem device (PCI 1af4:1110) here: run this in a node that was "
               "booted with one\n");
  return nullptr;
}

int Ping(Mailbox& box, const Options& options, int64_t deadline_ns) {
  const uint64_t base = uint64_t{options.session} << 32;
  uint64_t best_trip_ticks = UINT64_MAX;
  int64_t best_distance_ticks = 0;
  uint32_t done = 0;
  for (uint32_t round = 1; round <= options.rounds && MonotonicNs() < deadline_ns; ++round) {
    const uint64_t question = base | round;
    const uint64_t before = ReadTsc();
    box.question.store(question, std::memory_order_release);
    if (!WaitFor(box.answer, deadline_ns, [=](uint64_t value) { return value == question; })) break;
    const uint64_t after = ReadTsc();
    const uint64_t peer = box.answer_ticks.load(std::memory_order_relaxed);
    ++done;
    if (after - before >= best_trip_ticks) continue;
    best_trip_ticks = after - before;
    best_distance_ticks = static_cast<int64_t>(peer - (before + best_trip_ticks / 2));
  }
  box.question.store(base | UINT32_MAX, std::memory_order_release);
  if (done == 0) {
    std::fprintf(stderr,
                 "tsc_distance: no answer within %u s: does --role=pong run in the other "
                 "node, with the same --session?\n",
                 options.seconds);
    return 1;
  }
  // Half of the round trip, rounded up, and one tick for the midpoint that was rounded down.
  std::printf("{\"distance_ticks\": %" PRId64 ", \"error_ticks\": %" PRIu64 ", \"rounds\": %u}\n",
              best_distance_ticks, best_trip_ticks / 2 + 1, done);
  return 0;
}

int Pong(Mailbox& box, const Options& options, int64_t deadline_ns) {
  const uint64_t base = uint64_t{options.session} << 32;
  uint64_t last = base;
  while (true) {
    const std::optional<uint64_t> question =
        WaitFor(box.question, deadline_ns,
                [&](uint64_t value) { return value != last && (value >> 32) == options.session; });
    if (!question) {
      std::fprintf(stderr, "tsc_distance: not told to stop within %u s: has --role=ping ended?\n",
                   options.seconds);
      return 1;
    }
    if (static_cast<uint32_t>(*question) == UINT32_MAX) return 0;
    box.answer_ticks.store(ReadTsc(), std::memory_order_relaxed);
    box.answer.store(*question, std::memory_order_release);
    last = *question;
  }
}

int Clock(uint32_t rounds) {
  uint64_t best_width_ticks = UINT64_MAX;
  uint64_t best_tsc_ticks = 0;
  timespec best{};
  for (uint32_t round = 0; round < rounds; ++round) {
    timespec now{};
    const uint64_t before = ReadTsc();
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t width_ticks = ReadTsc() - before;
    if (width_ticks >= best_width_ticks) continue;
    best_width_ticks = width_ticks;
    best_tsc_ticks = before + width_ticks / 2;
    best = now;
  }
  std::printf("{\"tsc_ticks\": %" PRIu64 ", \"realtime_ns\": %" PRId64 ", \"error_ticks\": %" PRIu64
              "}\n",
              best_tsc_ticks, int64_t{best.tv_sec} * 1'000'000'000 + best.tv_nsec,
              best_width_ticks / 2 + 1);
  return 0;
}

bool ParseNumber(std::string_view text, uint32_t& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

std::optional<Options> ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view name = argument.substr(0, equals);
    const std::string_view value = argument.substr(equals + 1);
    if (name == "--role") {
      options.role = value;
    } else if (!(name == "--session"   ? ParseNumber(value, options.session)
                 : name == "--rounds"  ? ParseNumber(value, options.rounds)
                 : name == "--seconds" ? ParseNumber(value, options.seconds)
                                       : false)) {
      return std::nullopt;
    }
  }
  if (options.role != "ping" && options.role != "pong" && options.role != "clock") {
    return std::nullopt;
  }
  if (options.rounds == 0 || options.rounds == UINT32_MAX || options.seconds == 0) {
    return std::nullopt;
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = ParseOptions(argc, argv);
  if (!options) {
    std::fprintf(stderr,
                 "usage: tsc_distance --role=ping|pong|clock [--session=N] [--rounds=20000] "
                 "[--seconds=20]\n");
    return 2;
  }
  if (options->role == "clock") return Clock(options->rounds);
  Mailbox* box = MapMailbox();
  if (box == nullptr) return 1;
  const int64_t deadline_ns = MonotonicNs() + int64_t{options->seconds} * 1'000'000'000;
  return options->role == "ping" ? Ping(*box, *options, deadline_ns)
                                 : Pong(*box, *options, deadline_ns);
}
