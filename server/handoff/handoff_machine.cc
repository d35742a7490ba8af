#include "server/handoff/handoff_machine.h"

namespace tsc_handoff::handoff {
namespace {

using journal::Side;
using journal::State;

constexpr Step Go(State next) { return {Verdict::kGo, next, Reason::kInternalError}; }
constexpr Step kRepeat = {Verdict::kRepeat, State::kEmpty, Reason::kInternalError};
constexpr Step Refuse(Reason reason) { return {Verdict::kRefuse, State::kEmpty, reason}; }

// What the agent itself never does; to be refused nevertheless.
constexpr Step kImpossible = Refuse(Reason::kInternalError);
constexpr Step kUnknown = Refuse(Reason::kHandoffNotFound);
constexpr Step kTooEarly = Refuse(Reason::kHandoffUndecided);
constexpr Step kDecided = Refuse(Reason::kHandoffDecided);

// One row per state; the columns are those of Event. Clear to the eye before all else.
struct Row {
  std::optional<State> state;
  std::array<Step, kEvents.size()> steps;
};

// clang-format off
constexpr std::array kSource = {
    //                    Capture                Begin        Done         Undone       VmLost       Commit                 Abort                 Reclaim
    Row{std::nullopt,     {Go(State::kCaptured), kImpossible, kImpossible, kImpossible, kImpossible, kUnknown,              kUnknown,             kUnknown}},
    Row{State::kCaptured, {kRepeat,              kImpossible, kImpossible, kImpossible, kImpossible, Go(State::kReleased),  Go(State::kAborted),  kTooEarly}},
    Row{State::kReleased, {kRepeat,              kImpossible, kImpossible, kImpossible, kImpossible, kRepeat,               kDecided,             Go(State::kAborted)}},
    Row{State::kAborted,  {kDecided,             kImpossible, kImpossible, kImpossible, kImpossible, kDecided,              kRepeat,              kRepeat}},
};
constexpr std::array kDestination = {
    //                    Capture      Begin                 Done                 Undone             VmLost             Commit              Abort               Reclaim
    Row{std::nullopt,     {kImpossible, Go(State::kApplying), kImpossible,         kImpossible,       kImpossible,       kUnknown,           Go(State::kAborted), kImpossible}},
    Row{State::kEmpty,    {kImpossible, Go(State::kApplying), kImpossible,         kImpossible,       kImpossible,       kTooEarly,          Go(State::kAborted), kImpossible}},
    Row{State::kApplying, {kImpossible, kImpossible,          Go(State::kApplied), Go(State::kEmpty), kImpossible,       kTooEarly,          kImpossible,         kImpossible}},
    Row{State::kApplied,  {kImpossible, kRepeat,              kImpossible,         kImpossible,       Go(State::kEmpty), Go(State::kActive), Go(State::kAborted), kImpossible}},
    Row{State::kActive,   {kImpossible, kRepeat,              kImpossible,         kImpossible,       kImpossible,       kRepeat,            kDecided,            kImpossible}},
    Row{State::kAborted,  {kImpossible, kDecided,             kImpossible,         kImpossible,       kImpossible,       kDecided,           kRepeat,             kImpossible}},
};
// clang-format on

template <size_t N>
Step LookUp(const std::array<Row, N>& table, std::optional<State> state, Event event) {
  for (const Row& row : table) {
    if (row.state == state) return row.steps[static_cast<size_t>(event)];
  }
  return kImpossible;  // a state of the other side
}

}  // namespace

Step Next(Side side, std::optional<State> state, Event event) {
  return side == Side::kSource ? LookUp(kSource, state, event) : LookUp(kDestination, state, event);
}

bool IsPending(State state) {
  return state != State::kReleased && state != State::kActive && state != State::kAborted;
}

bool OccupiesVm(State state) { return IsPending(state) && state != State::kEmpty; }

const char* NameOf(State state) {
  switch (state) {
    case State::kCaptured:
      return "CAPTURED";
    case State::kReleased:
      return "RELEASED";
    case State::kAborted:
      return "ABORTED";
    case State::kEmpty:
      return "EMPTY";
    case State::kApplying:
      return "APPLYING";
    case State::kApplied:
      return "APPLIED";
    case State::kActive:
      return "ACTIVE";
  }
  return "?";
}

const char* NameOf(Event event) {
  switch (event) {
    case Event::kCapture:
      return "Capture";
    case Event::kBegin:
      return "Begin";
    case Event::kDone:
      return "Done";
    case Event::kUndone:
      return "Undone";
    case Event::kVmLost:
      return "VmLost";
    case Event::kCommit:
      return "Commit";
    case Event::kAbort:
      return "Abort";
    case Event::kReclaim:
      return "Reclaim";
  }
  return "?";
}

const char* NameOf(Side side) { return side == Side::kSource ? "source" : "destination"; }

}  // namespace tsc_handoff::handoff
