#include "server/handoff/handoff_machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::handoff {
namespace {

using journal::Side;
using journal::State;
using MaybeState = std::optional<State>;

const std::vector<MaybeState> kSourceStates = {std::nullopt, State::kCaptured, State::kReleased,
                                               State::kAborted};
const std::vector<MaybeState> kDestinationStates = {std::nullopt,     State::kEmpty,
                                                    State::kApplying, State::kApplied,
                                                    State::kActive,   State::kAborted};

const std::vector<MaybeState>& StatesOf(Side side) {
  return side == Side::kSource ? kSourceStates : kDestinationStates;
}

// "[*]" is mermaid's word for where it begins.
std::string Name(MaybeState state) { return state.has_value() ? NameOf(*state) : "[*]"; }

// The transitions of a side, one a line, as a mermaid diagram has them.
std::string Diagram(Side side) {
  std::string lines;
  for (const MaybeState& state : StatesOf(side)) {
    for (const Event event : kEvents) {
      const Step step = Next(side, state, event);
      if (step.verdict == Verdict::kGo) {
        absl::StrAppend(&lines, "  ", Name(state), " --> ", NameOf(step.next), " : ", NameOf(event),
                        "\n");
      }
    }
  }
  return lines;
}

std::string Architecture() {
  std::ifstream file("ARCHITECTURE.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class SideTest : public testing::TestWithParam<Side> {};
INSTANTIATE_TEST_SUITE_P(Sides, SideTest, testing::Values(Side::kSource, Side::kDestination),
                         [](const auto& side) { return NameOf(side.param); });

TEST_P(SideTest, TheDiagramInTheDocumentationIsTheTable) {
  const std::string wanted =
      absl::StrCat("```mermaid\nstateDiagram-v2\n", Diagram(GetParam()), "```\n");
  EXPECT_NE(Architecture().find(wanted), std::string::npos) << "ARCHITECTURE.md does not contain:\n"
                                                            << wanted;
}

TEST_P(SideTest, EveryTransitionStaysOnItsSide) {
  const auto& states = StatesOf(GetParam());
  for (const MaybeState& state : states) {
    for (const Event event : kEvents) {
      const Step step = Next(GetParam(), state, event);
      if (step.verdict != Verdict::kGo) continue;
      EXPECT_NE(std::find(states.begin(), states.end(), MaybeState(step.next)), states.end())
          << Name(state) << " " << NameOf(event);
      EXPECT_NE(state, MaybeState(step.next)) << Name(state) << " " << NameOf(event);
    }
  }
}

TEST_P(SideTest, FinalStatesAreNeverLeftButByAnOperatorsWord) {
  for (const MaybeState& state : StatesOf(GetParam())) {
    if (!state.has_value() || IsPending(*state)) continue;
    for (const Event event : kEvents) {
      if (event == Event::kReclaim) continue;
      EXPECT_NE(Next(GetParam(), state, event).verdict, Verdict::kGo)
          << Name(state) << " " << NameOf(event);
    }
  }
}

TEST_P(SideTest, EveryPendingStateLeadsToAFinalOne) {
  for (const MaybeState& start : StatesOf(GetParam())) {
    std::set<State> reached;
    std::vector<MaybeState> open = {start};
    bool ends = false;
    while (!open.empty()) {
      const MaybeState state = open.back();
      open.pop_back();
      ends = ends || (state.has_value() && !IsPending(*state));
      for (const Event event : kEvents) {
        const Step step = Next(GetParam(), state, event);
        if (step.verdict == Verdict::kGo && reached.insert(step.next).second)
          open.emplace_back(step.next);
      }
    }
    EXPECT_TRUE(ends) << Name(start);
  }
}

TEST_P(SideTest, AStateOfTheOtherSideIsRefused) {
  const Side side = GetParam();
  const Side other = side == Side::kSource ? Side::kDestination : Side::kSource;
  const auto& mine = StatesOf(side);
  for (const MaybeState& state : StatesOf(other)) {
    if (std::find(mine.begin(), mine.end(), state) != mine.end()) continue;
    for (const Event event : kEvents) {
      const Step step = Next(side, state, event);
      EXPECT_EQ(step.verdict, Verdict::kRefuse) << Name(state) << " " << NameOf(event);
      EXPECT_EQ(step.reason, Reason::kInternalError) << Name(state) << " " << NameOf(event);
    }
  }
}

struct Row {
  Side side;
  MaybeState state;
  Event event;
  Verdict verdict;
  Reason reason = Reason::kInternalError;
};

// What callers see; the transitions themselves are in the diagram.
const Row kAnswers[] = {
    {Side::kSource, std::nullopt, Event::kCommit, Verdict::kRefuse, Reason::kHandoffNotFound},
    {Side::kSource, std::nullopt, Event::kAbort, Verdict::kRefuse, Reason::kHandoffNotFound},
    {Side::kSource, State::kCaptured, Event::kCapture, Verdict::kRepeat},
    {Side::kSource, State::kReleased, Event::kCapture, Verdict::kRepeat},
    {Side::kSource, State::kReleased, Event::kCommit, Verdict::kRepeat},
    {Side::kSource, State::kReleased, Event::kAbort, Verdict::kRefuse, Reason::kHandoffDecided},
    {Side::kSource, State::kAborted, Event::kCapture, Verdict::kRefuse, Reason::kHandoffDecided},
    {Side::kSource, State::kAborted, Event::kCommit, Verdict::kRefuse, Reason::kHandoffDecided},
    {Side::kSource, State::kAborted, Event::kAbort, Verdict::kRepeat},
    {Side::kSource, State::kCaptured, Event::kReclaim, Verdict::kRefuse, Reason::kHandoffUndecided},
    {Side::kSource, State::kAborted, Event::kReclaim, Verdict::kRepeat},
    {Side::kDestination, std::nullopt, Event::kCommit, Verdict::kRefuse, Reason::kHandoffNotFound},
    {Side::kDestination, State::kEmpty, Event::kCommit, Verdict::kRefuse,
     Reason::kHandoffUndecided},
    {Side::kDestination, State::kApplying, Event::kCommit, Verdict::kRefuse,
     Reason::kHandoffUndecided},
    {Side::kDestination, State::kApplied, Event::kBegin, Verdict::kRepeat},
    {Side::kDestination, State::kActive, Event::kBegin, Verdict::kRepeat},
    {Side::kDestination, State::kActive, Event::kCommit, Verdict::kRepeat},
    {Side::kDestination, State::kActive, Event::kAbort, Verdict::kRefuse, Reason::kHandoffDecided},
    {Side::kDestination, State::kAborted, Event::kBegin, Verdict::kRefuse, Reason::kHandoffDecided},
    {Side::kDestination, State::kAborted, Event::kCommit, Verdict::kRefuse,
     Reason::kHandoffDecided},
    {Side::kDestination, State::kAborted, Event::kAbort, Verdict::kRepeat},
};

TEST(HandoffMachineTest, RepeatsAndRefusalsAreTheDocumentedOnes) {
  for (const Row& row : kAnswers) {
    const Step step = Next(row.side, row.state, row.event);
    EXPECT_EQ(step.verdict, row.verdict)
        << NameOf(row.side) << " " << Name(row.state) << " " << NameOf(row.event);
    EXPECT_EQ(step.reason, row.reason)
        << NameOf(row.side) << " " << Name(row.state) << " " << NameOf(row.event);
  }
}

TEST(HandoffMachineTest, AVmIsOccupiedFromItsCaptureOrApplyUntilTheDecision) {
  for (const State state : {State::kCaptured, State::kApplying, State::kApplied})
    EXPECT_TRUE(OccupiesVm(state)) << NameOf(state);
  for (const State state : {State::kReleased, State::kAborted, State::kEmpty, State::kActive})
    EXPECT_FALSE(OccupiesVm(state)) << NameOf(state);
}

}  // namespace
}  // namespace tsc_handoff::handoff
