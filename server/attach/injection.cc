#include "server/attach/injection.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/attach/embedded_code.h"
#include "server/attach/ending.h"
#include "server/attach/job.h"
#include "server/attach/proc_text.h"
#include "server/attach/stub_layout.h"
#include "server/attach/stub_place.h"
#include "server/attach/tracee.h"
#include "server/base/error.h"
#include "server/base/failpoint.h"

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t kPage = 4096;
// tsc_kvm.c needs less than 1 KiB; only pages that are touched cost anything.
constexpr uint64_t kStackBytes = 64 * 1024;
// A thread that can be stopped at all is stopped within microseconds, on a machine that has a turn
// and a disk to spare for it.
constexpr absl::Duration kStopTimeout = absl::Milliseconds(200);
constexpr absl::Duration kLongestStopTimeout = absl::Seconds(1);
constexpr uint64_t kLastAddress = ~uint64_t{0} - 4095;  // above it are error numbers

uint64_t WholePages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

absl::Status Internal(const std::string& what) { return Error(Reason::kInternalError, what); }

class Injection {
 public:
  Injection(const Target& target, pid_t tid, const InjectionOptions& options)
      : target_(target), tid_(tid), options_(options) {}

  absl::StatusOr<InjectionResult> Run(std::vector<std::byte> job) {
    job_bytes_ = job.size();
    if (absl::Status status = Prepare(); !status.ok()) return status;
    absl::StatusOr<Tracee> tracee = Tracee::Seize(target_, tid_);
    if (!tracee.ok()) return tracee.status();
    tracee_.emplace(*std::move(tracee));
    absl::Status status = StopThread();
    if (status.ok()) status = Redirect();
    if (!status.ok()) return status;
    const absl::Status done = RunJob(job);
    status = Restore();
    for (int signal : held_signals_) syscall(SYS_tgkill, target_.pid(), tid_, signal);
    // That the thread has ended says more than what failed for it.
    if (ReasonOf(status) == Reason::kVmmGone) return status;
    if (!done.ok()) return done;
    // A thread that was let go after the job had been read back puts itself back.
    if (!status.ok() && !let_go_) return status;
    return InjectionResult{std::move(job), cancelled_, stopped_for_};
  }

 private:
  absl::Status Refuse(const Refusal& refusal) const {
    // One that has ended is no matter of what the caller asked for.
    return Error(
        refusal.word == "zombie" ? Reason::kVmmGone : Reason::kAttachRefused,
        absl::StrCat("thread ", tid_, " of process ", target_.pid(), " ", refusal.sentence),
        {{"pid", absl::StrCat(target_.pid())}, {"refusal", std::string(refusal.word)}});
  }

  absl::StatusOr<TaskStatus> ReadStatus() const {
    auto text = target_.Read(absl::StrCat("task/", tid_, "/status"));
    if (!text.ok()) return text.status();
    std::optional<TaskStatus> status = ParseStatus(*text);
    if (!status) return Internal(absl::StrCat("/proc/PID/task/", tid_, "/status cannot be read"));
    return *status;
  }

  // All that can be found out while the thread still runs.
  absl::Status Prepare() {
    auto status = ReadStatus();
    // Waiting for a page of a file passes; waiting for a dead disk does not.
    const absl::Time deadline = absl::Now() + kStopTimeout;
    while (status.ok() && status->state == 'D' && absl::Now() < deadline) {
      sched_yield();
      status = ReadStatus();
    }
    if (!status.ok()) return status.status();
    if (auto refusal = WhyNotBorrow(*status, options_.policy)) return Refuse(*refusal);
    inner_tgid_ = status->inner_tgid;
    inner_tid_ = status->inner_tid;
    report_signal_ = *ReportSignal(*status);
    auto maps = target_.Read("maps");
    if (!maps.ok()) return maps.status();
    auto memory = target_.OpenMemory();
    if (!memory.ok()) return memory.status();
    memory_ = *std::move(memory);
    const auto read = [this](uint64_t address, unsigned char* to, size_t bytes) {
      return pread(memory_.get(), to, bytes, static_cast<off_t>(address)) ==
             static_cast<ssize_t>(bytes);
    };
    std::optional<uint64_t> place = FindStubPlace(ParseMaps(*maps), Stub().size(), read);
    if (!place)
      return Refuse({"no_place", "has no executable memory to spare for the first instructions"});
    stub_address_ = *place;
    Failpoint("attach.prepared");
    return absl::OkStatus();
  }

  // Stops the thread where it is, and keeps what it has to be put back with.
  absl::Status StopThread() {
    if (absl::Status status = tracee_->Interrupt(); !status.ok()) return status;
    const absl::Time deadline = absl::Now() + kLongestStopTimeout;
    while (true) {
      absl::StatusOr<Stop> stop = tracee_->WaitStop(deadline);
      if (absl::IsDeadlineExceeded(stop.status())) {
        return Refuse({"uninterruptible", "cannot be stopped: it is in an uninterruptible sleep"});
      }
      if (!stop.ok()) return stop.status();
      if (stop->is_event) break;
      // A signal was on its way before us: it goes first. Its stop has used the interruption up.
      absl::Status status = tracee_->Continue(stop->signal);
      if (status.ok()) status = tracee_->Interrupt();
      if (!status.ok()) return status;
    }
    stopped_at_ = absl::Now();
    Failpoint("attach.stopped");
    auto regs = tracee_->Registers();
    auto mask = tracee_->SignalMask();
    if (!regs.ok()) return regs.status();
    if (!mask.ok()) return mask.status();
    if (static_cast<int64_t>(regs->orig_rax) < 0) {  // in a system call there is no such sequence
      auto rip = tracee_->AfterRestartableSequence(regs->rip);
      if (!rip.ok()) return rip.status();
      regs->rip = *rip;
    }
    registers_ = *regs;
    if (MayAnswerEintr(*regs)) {
      auto status = ReadStatus();
      if (!status.ok()) return status.status();
      registers_ = RegistersToRestore(*regs, (status->pending & ~status->blocked) == 0);
    }
    mask_ = *mask;
    return WriteStub();
  }

  absl::Status WriteStub() {
    std::vector<unsigned char> stub(Stub().begin(), Stub().end());
    std::memcpy(&header_, stub.data(), sizeof(header_));
    header_.code_bytes = WholePages(Payload().size());
    header_.map_bytes = header_.code_bytes + WholePages(job_bytes_) + kStackBytes;
    header_.tgid = static_cast<uint32_t>(inner_tgid_);
    header_.tid = static_cast<uint32_t>(inner_tid_);
    header_.signal = static_cast<uint32_t>(report_signal_);
    header_.mask_during = MaskWhileBorrowed(mask_, report_signal_);
    header_.mask_after = mask_;
    attach::SetRegisters(RegistersToJumpTo(registers_), header_);
    std::memcpy(stub.data(), &header_, sizeof(header_));
    if (!WriteStubMemory(stub)) {
      return Internal(absl::StrCat("process ", target_.pid(),
                                   ": the stub cannot be written: ", strerror(errno)));
    }
    Failpoint("attach.stub_written");
    return absl::OkStatus();
  }

  bool WriteStubMemory(const std::vector<unsigned char>& bytes) {
    return pwrite(memory_.get(), bytes.data(), bytes.size(), static_cast<off_t>(stub_address_)) ==
           static_cast<ssize_t>(bytes.size());
  }

  // Sends the thread into the stub, and waits until that has made the scratch memory.
  absl::Status Redirect() {
    user_regs_struct regs = registers_;
    regs.rip = stub_address_ + header_.entry_offset;
    regs.orig_rax = kNoSyscall;  // so that the kernel does not restart a system call
    if (absl::Status status = tracee_->SetRegisters(regs); !status.ok()) return status;
    Failpoint("attach.redirected");
    return absl::OkStatus();
  }

  absl::Status RunJob(std::vector<std::byte>& job) {
    const absl::Time deadline = absl::Now() + options_.timeout;
    doing_ = "map memory";
    absl::StatusOr<user_regs_struct> regs = ContinueToReport(deadline, nullptr);
    if (!regs.ok()) return regs.status();
    Failpoint("attach.mapped");
    map_address_ = regs->rbx;
    if (map_address_ > kLastAddress) {
      return Internal(absl::StrCat("process ", target_.pid(), " cannot map memory: ",
                                   strerror(static_cast<int>(0 - map_address_))));
    }
    const uint64_t job_address = map_address_ + header_.code_bytes;
    if (!WritePayloadAndJob(job)) {
      return Internal(absl::StrCat("process ", target_.pid(), ": the payload cannot be written"));
    }
    Failpoint("attach.payload_written");
    regs->r13 = 1;  // go
    if (absl::Status status = tracee_->SetRegisters(*regs); !status.ok()) return status;
    Failpoint("attach.told_to_go");
    doing_ = "run the job";
    last_progress_at_ = absl::Now();
    regs = ContinueToReport(deadline, [this, job_address] { return Watch(job_address); });
    if (!regs.ok()) return regs.status();
    Failpoint("attach.ran");
    if (regs->rip != stub_address_ + header_.ran_offset) {
      unmapped_ = true;
      return Internal(
          absl::StrCat("process ", target_.pid(), ": memory cannot be made executable"));
    }
    ran_ = true;
    if (!Read(job_address, job.data(), job.size())) {
      return Internal(absl::StrCat("process ", target_.pid(), ": the job cannot be read back"));
    }
    return absl::OkStatus();
  }

  // Called now and then while the job runs.
  absl::Status Watch(uint64_t job_address) {
    Failpoint("attach.running");
    tsc_kvm_progress progress = {};
    if (hung_ || !Read(job_address + offsetof(attach_job, progress), &progress, sizeof(progress))) {
      return absl::OkStatus();  // if it has died, waiting finds out
    }
    const absl::Time now = absl::Now();
    if (progress.step != last_progress_.step || progress.vcpu_id != last_progress_.vcpu_id) {
      last_progress_ = progress;
      last_progress_at_ = now;
    }
    if (now - last_progress_at_ < options_.hang_after) return absl::OkStatus();
    if (options_.hangs && !options_.hangs()) return absl::OkStatus();
    hung_ = true;
    const uint32_t cancel = 1;
    // If it has just become complete, it has settled that by itself and does not look here again.
    cancelled_ =
        Write(job_address + offsetof(attach_job, progress) + offsetof(tsc_kvm_progress, cancel),
              &cancel, sizeof(cancel));
    if (options_.on_hang) options_.on_hang();
    return absl::OkStatus();
  }

  // Lets the thread run until it reports, wherever in the stub.
  absl::StatusOr<user_regs_struct> ContinueToReport(absl::Time deadline,
                                                    const std::function<absl::Status()>& idle) {
    int signal = 0;
    while (true) {
      if (absl::Status status = tracee_->Continue(signal); !status.ok()) return status;
      absl::StatusOr<Stop> stop = tracee_->WaitStop(deadline, idle);
      if (absl::IsDeadlineExceeded(stop.status())) return LetGo();
      if (!stop.ok()) return stop.status();
      if (stop->is_event) continue;  // a group stop, which takes effect when we let go
      absl::StatusOr<user_regs_struct> regs = tracee_->Registers();
      if (!regs.ok()) return regs;
      if (stop->signal == report_signal_ && IsReport(regs->rip)) return regs;
      if (stop->signal == report_signal_)
        continue;  // somebody else sent it, and the process ignores it
      auto fault = tracee_->SignalIsFault();
      if (!fault.ok()) return fault.status();
      if (*fault) {
        return Internal(
            absl::StrCat("signal ", stop->signal, " in injected code at ", absl::Hex(regs->rip)));
      }
      held_signals_.push_back(stop->signal);
    }
  }

  bool IsReport(uint64_t rip) const {
    const uint64_t offset = rip - stub_address_;
    return offset == header_.mapped_offset || offset == header_.ran_offset ||
           offset == header_.unmapped_offset;
  }

  // It has not reported in time: nothing can be done for it, and it goes on by itself.
  absl::Status LetGo() {
    hung_ = true;
    let_go_ = true;
    stopped_for_ = absl::Now() - stopped_at_;
    return Error(Reason::kVmRunning,
                 absl::StrCat("process ", target_.pid(), ": a call that was made in it to ", doing_,
                              " has not returned within ", absl::FormatDuration(stopped_for_)),
                 {{"pid", absl::StrCat(target_.pid())}});
  }

  // Removes the scratch memory and puts the thread back, from wherever it stopped. A thread that
  // has ended, or that was let go, needs nothing.
  absl::Status Restore() {
    if (let_go_) return absl::OkStatus();
    if (!unmapped_ && map_address_ != 0 && map_address_ <= kLastAddress) {
      if (absl::Status status = GoToUnmap(); !status.ok()) return status;
      Failpoint("attach.removing");
      auto regs = ContinueToReport(absl::Now() + kLongestStopTimeout, nullptr);
      if (!regs.ok()) return regs.status();
    }
    Failpoint("attach.unmapped");
    // The mask first: with the registers the thread is back in its own code.
    if (absl::Status status = tracee_->SetSignalMask(mask_); !status.ok()) return status;
    Failpoint("attach.mask_restored");
    if (absl::Status status = tracee_->SetRegisters(registers_); !status.ok()) return status;
    Failpoint("attach.registers_restored");
    absl::Status status = tracee_->Detach();
    stopped_for_ = absl::Now() - stopped_at_;
    Failpoint("attach.detached");
    // Nobody is in it any more.
    (void)WriteStubMemory(std::vector<unsigned char>(Stub().size()));
    Failpoint("attach.stub_cleared");
    return status;
  }

  // A thread that has reported the job's end stands there already.
  absl::Status GoToUnmap() {
    doing_ = "unmap memory";
    if (ran_) return absl::OkStatus();
    auto regs = tracee_->Registers();
    if (!regs.ok()) return regs.status();
    regs->rip = stub_address_ + header_.ran_offset;
    regs->rbx = map_address_;
    regs->orig_rax = kNoSyscall;
    return tracee_->SetRegisters(*regs);
  }

  bool WritePayloadAndJob(const std::vector<std::byte>& job) {
    const iovec local[] = {
        {const_cast<unsigned char*>(Payload().data()), Payload().size()},
        {const_cast<std::byte*>(job.data()), job.size()},
    };
    const iovec remote[] = {
        {reinterpret_cast<void*>(map_address_), Payload().size()},
        {reinterpret_cast<void*>(map_address_ + header_.code_bytes), job.size()},
    };
    return process_vm_writev(tid_, local, 2, remote, 2, 0) ==
           static_cast<ssize_t>(Payload().size() + job.size());
  }

  bool Write(uint64_t address, const void* from, size_t bytes) {
    const iovec local = {const_cast<void*>(from), bytes};
    const iovec remote = {reinterpret_cast<void*>(address), bytes};
    return process_vm_writev(tid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
  }

  bool Read(uint64_t address, void* to, size_t bytes) {
    const iovec local = {to, bytes};
    const iovec remote = {reinterpret_cast<void*>(address), bytes};
    return process_vm_readv(tid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
  }

  const Target& target_;
  const pid_t tid_;
  const InjectionOptions& options_;
  std::optional<Tracee> tracee_;
  UniqueFd memory_;
  size_t job_bytes_ = 0;
  uint64_t stub_address_ = 0;
  int report_signal_ = 0;
  pid_t inner_tgid_ = 0;
  pid_t inner_tid_ = 0;
  StubHeader header_ = {};

  user_regs_struct registers_ = {};
  uint64_t mask_ = 0;

  const char* doing_ = "";  // what a hung call is for
  uint64_t map_address_ = 0;
  bool ran_ = false;
  bool unmapped_ = false;
  bool hung_ = false;
  bool let_go_ = false;
  bool cancelled_ = false;
  tsc_kvm_progress last_progress_ = {};
  absl::Time last_progress_at_;
  std::vector<int> held_signals_;
  absl::Time stopped_at_;
  absl::Duration stopped_for_;
};

}  // namespace

absl::StatusOr<InjectionResult> RunInThread(const Target& target, pid_t tid,
                                            std::vector<std::byte> job,
                                            const InjectionOptions& options) {
  absl::StatusOr<InjectionResult> result = Injection(target, tid, options).Run(std::move(job));
  // A process that is about to end loses one thing after another: its memory, the right to trace
  // it.
  if (!result.ok() && ReasonOf(result.status()) != Reason::kVmRunning && IsEnding(target, tid)) {
    return Error(Reason::kVmmGone, absl::StrCat("process ", target.pid(), " has ended"),
                 {{"pid", absl::StrCat(target.pid())}, {"refusal", "zombie"}});
  }
  return result;
}

}  // namespace tsc_handoff::attach
