#include "server/clock/chrony_clock_source.h"

#include <chrono>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tsc_handoff::clock {
namespace {

int64_t SystemRealtimeNs() {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

SourceReport NoAnswer(const absl::Status& why) {
  SourceReport report;
  report.problem = std::string(why.message());
  return report;
}

}  // namespace

ChronyClockSource::ChronyClockSource(ChronyOptions options) : options_(std::move(options)) {
  if (!options_.realtime_ns) options_.realtime_ns = SystemRealtimeNs;
}

absl::Status ChronyClockSource::CheckAddress(const std::string& address) {
  return ChronySocket::CheckAddress(address);
}

absl::StatusOr<ChronyTracking> ChronyClockSource::Exchange() {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds(options_.timeout_ns);
  if (!socket_.has_value()) {
    absl::StatusOr<ChronySocket> socket = ChronySocket::Open(options_.address);
    if (!socket.ok()) return socket.status();
    socket_.emplace(*std::move(socket));
  }
  // Not to be guessed by another process that would like to answer.
  const uint32_t sequence = random_();
  const ChronyRequest request = EncodeTrackingRequest(sequence);
  if (absl::Status status = socket_->Send(absl::string_view(request.data(), request.size()));
      !status.ok())
    return status;
  while (true) {
    const absl::StatusOr<std::string> datagram = socket_->Receive(deadline);
    if (!datagram.ok()) return datagram.status();
    const std::optional<uint32_t> answered = ReplySequence(*datagram);
    if (answered.has_value() && *answered != sequence) continue;  // late, to an earlier request
    absl::StatusOr<ChronyTracking> tracking = ParseTrackingReply(*datagram, sequence);
    if (tracking.ok()) return tracking;
    return absl::Status(tracking.status().code(), absl::StrCat("chronyd at ", options_.address,
                                                               ": ", tracking.status().message()));
  }
}

SourceReport ChronyClockSource::Ask(int64_t /*monotonic_ns*/) {
  const absl::StatusOr<ChronyTracking> tracking = Exchange();
  // A chronyd that was started anew has another socket, and the directory of ours may be another
  // one, too.
  if (!tracking.ok()) socket_.reset();
  SourceReport report = tracking.ok() ? ReportFromTracking(*tracking, options_.realtime_ns())
                                      : NoAnswer(tracking.status());
  report.source = "chrony";
  if (report.word == SourceReport::Word::kSynchronised)
    report.update_id = updates_.NameOf(tracking->reference_ns);
  const KernelTai kernel = ReadKernelTai(options_.adjtimex);
  report.tai_offset_s = kernel.tai_offset_s;
  report.leap_second = report.leap_second || kernel.leap_second;
  return report;
}

}  // namespace tsc_handoff::clock
