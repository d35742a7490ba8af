#include "client/tscctl/transfer_progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tscctl/format.h"

namespace tsc_handoff::tscctl {
namespace {

constexpr size_t kBarWidth = 20;
// A line that a narrow terminal would break could not be drawn over.
constexpr size_t kLineWidth = 79;
constexpr char kEraseLine[] = "\r\x1b[K";

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  struct Unit {
    const char* name;
    int shift;
  };
  for (const Unit& unit : {Unit{"GiB", 30}, Unit{"MiB", 20}, Unit{"KiB", 10}}) {
    if (bytes >> unit.shift == 0) continue;
    return absl::StrFormat(
        "%.4g %s", static_cast<double>(bytes) / static_cast<double>(1ull << unit.shift), unit.name);
  }
  return absl::StrCat(bytes, " B");
}

void TransferProgress::Show(const qmp::TransferProgress& now) {
  if (io_.json) return;
  if (io_.show_progress) {
    Draw(now);
  } else if (now.status != last_status_) {
    io_.err << "migration  " << Printable(now.status) << "  " << HumanBytes(now.transferred_bytes)
            << "\n"
            << std::flush;
  }
  last_status_ = now.status;
}

void TransferProgress::Draw(const qmp::TransferProgress& now) {
  // What remains of this pass: a guest that writes a lot makes it grow again.
  const uint64_t total = std::max<uint64_t>(now.total_bytes, 1);
  const uint64_t left = std::min(now.remaining_bytes, total);
  const bool done = now.status == "completed";
  const bool known = now.total_bytes > 0;
  const auto filled = done     ? kBarWidth
                      : !known ? 0
                               : static_cast<size_t>(kBarWidth * (total - left) / total);
  std::string line =
      absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ",
                   HumanBytes(now.transferred_bytes), " sent, ",
                   HumanBytes(done ? 0 : now.remaining_bytes), " left  ", Printable(now.status));
  line.resize(std::min(line.size(), kLineWidth));
  io_.err << kEraseLine << line << std::flush;
  drawn_ = true;
}

void TransferProgress::TellOfInterrupt() {
  if (told_of_interrupt_ || io_.json) return;
  told_of_interrupt_ = true;
  End();
  io_.err << "migrate-qemu: interrupted; cancelling the migration. Ctrl-C again leaves all as it "
             "is.\n"
          << std::flush;
}

void TransferProgress::End() {
  if (drawn_) io_.err << "\n" << std::flush;
  drawn_ = false;
}

}  // namespace tsc_handoff::tscctl
