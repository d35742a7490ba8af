#include "server/clock/chrony_clock_source.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::clock {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int64_t kNsPerSecond = 1'000'000'000;
// An update is never this soon after another one, and a slew never shifts its time by as much.
constexpr int64_t kSameUpdateNs = 1'000'000;

int64_t SystemRealtimeNs() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

bool IsPath(const std::string& address) { return absl::StartsWith(address, "/"); }

bool ParseUdp(const std::string& address, sockaddr_in& out) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port == 0 || port > 65535)
    return false;
  out.sin_family = AF_INET;
  out.sin_port = htons(static_cast<uint16_t>(port));
  return inet_pton(AF_INET, address.substr(0, colon).c_str(), &out.sin_addr) == 1;
}

bool ParseUnix(const std::string& path, sockaddr_un& out) {
  out.sun_family = AF_UNIX;
  if (path.size() >= sizeof(out.sun_path)) return false;
  std::memcpy(out.sun_path, path.c_str(), path.size() + 1);
  return true;
}

SourceReport NoAnswer(const absl::Status& why) {
  SourceReport report;
  report.problem = std::string(why.message());
  return report;
}

}  // namespace

ChronyClockSource::ChronyClockSource(ChronyOptions options) : options_(std::move(options)) {}

ChronyClockSource::~ChronyClockSource() { Close(); }

absl::Status ChronyClockSource::CheckAddress(const std::string& address) {
  sockaddr_in udp = {};
  sockaddr_un unix_address = {};
  if (IsPath(address) ? ParseUnix(address, unix_address) : ParseUdp(address, udp))
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", address, "\" is neither IPv4:PORT nor the absolute path of a socket"));
}

absl::Status ChronyClockSource::Failed(const char* what) const {
  return absl::UnavailableError(
      absl::StrCat(what, " chronyd at ", options_.address, ": ", strerror(errno),
                   "; is it running, and does its configuration open that address?"));
}

absl::Status ChronyClockSource::OpenUdp() {
  sockaddr_in address = {};
  ParseUdp(options_.address, address);
  socket_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return Failed("cannot reach");
  return absl::OkStatus();
}

// chronyd answers to the path from which it was asked, as a user of its own: that path has to be in
// a directory that it may search, and writable to it.
absl::Status ChronyClockSource::OpenUnix() {
  sockaddr_un theirs = {};
  ParseUnix(options_.address, theirs);
  const std::string directory = options_.address.substr(0, options_.address.rfind('/'));
  const std::string path = absl::StrCat(directory, "/tsc-agent.", getpid(), ".sock");
  sockaddr_un ours = {};
  if (!ParseUnix(path, ours)) {
    errno = ENAMETOOLONG;
    return Failed("cannot make a socket beside that of");
  }
  socket_ = UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlink(path.c_str());  // left by a process of the same number that was killed
  if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&ours), sizeof(ours)) != 0)
    return Failed("cannot make a socket beside that of");
  own_path_ = path;
  constexpr mode_t kEverybodyWrites = 0666;
  if (chmod(path.c_str(), kEverybodyWrites) != 0 ||
      connect(socket_.get(), reinterpret_cast<sockaddr*>(&theirs), sizeof(theirs)) != 0)
    return Failed("cannot reach");
  return absl::OkStatus();
}

absl::Status ChronyClockSource::Open() {
  if (socket_.valid()) return absl::OkStatus();
  if (absl::Status status = CheckAddress(options_.address); !status.ok()) return status;
  return IsPath(options_.address) ? OpenUnix() : OpenUdp();
}

void ChronyClockSource::Close() {
  socket_ = UniqueFd();
  if (!own_path_.empty()) unlink(own_path_.c_str());
  own_path_.clear();
}

absl::StatusOr<ChronyTracking> ChronyClockSource::AwaitReply(uint32_t sequence) {
  const auto deadline = SteadyClock::now() + std::chrono::nanoseconds(options_.timeout_ns);
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now());
    pollfd readable = {socket_.get(), POLLIN, 0};
    const int ready = left.count() > 0 ? poll(&readable, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      errno = ETIMEDOUT;
      return Failed("no answer from");
    }
    char datagram[kChronyPacketBytes + 1];  // one more, to see what is too long
    const ssize_t size = recv(socket_.get(), datagram, sizeof(datagram), 0);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size < 0) return Failed("no answer from");
    const auto tracking =
        ParseTrackingReply(absl::string_view(datagram, static_cast<size_t>(size)), sequence);
    if (tracking.has_value()) return *tracking;
  }
}

absl::StatusOr<ChronyTracking> ChronyClockSource::Exchange() {
  if (absl::Status status = Open(); !status.ok()) return status;
  const uint32_t sequence = random_();
  const ChronyRequest request = EncodeTrackingRequest(sequence);
  if (send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0)
    return Failed("cannot ask");
  return AwaitReply(sequence);
}

int64_t ChronyClockSource::UpdateId(int64_t reference_ns) {
  if (!last_update_ns_.has_value() || std::abs(reference_ns - *last_update_ns_) >= kSameUpdateNs)
    last_update_ns_ = reference_ns;
  return *last_update_ns_;
}

SourceReport ChronyClockSource::Ask(int64_t /*monotonic_ns*/) {
  const auto tracking = Exchange();
  if (!tracking.ok()) Close();
  SourceReport report =
      tracking.ok() ? ReportFromTracking(*tracking, options_.realtime_ns ? options_.realtime_ns()
                                                                         : SystemRealtimeNs())
                    : NoAnswer(tracking.status());
  report.source = "chrony";
  if (report.word == SourceReport::Word::kSynchronised)
    report.update_id = UpdateId(tracking->reference_ns);
  const KernelTai kernel = ReadKernelTai(options_.adjtimex);
  report.tai_offset_s = kernel.tai_offset_s;
  report.leap_second = report.leap_second || kernel.leap_second;
  return report;
}

}  // namespace tsc_handoff::clock
