#include "client/tscctl/top/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/tscctl/top/text.h"
#include "client/tscctl/top/top_testing.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Key Press(char character) { return {.code = Key::Code::kCharacter, .character = character}; }
Key Press(Key::Code code) { return {.code = code}; }

// Two hosts, one of them away; 30 VMs; an undecided handoff among others.
Snapshot Troubled() {
  AgentView a = MakeAgent("alpha");
  AgentView b = MakeAgent("beta");
  for (int i = 0; i < 30; ++i) a.vms.push_back(MakeVm(absl::StrCat("vm-", 10 + i)));
  b.error = "connection refused";
  b.answered = TestNow().steady - std::chrono::seconds(7);
  a.handoffs = {MakeHandoff("h-new", "vm-11"), MakeHandoff("h-stuck", "vm-12")};
  a.handoffs[1].set_undecided(true);
  a.handoffs[1].mutable_ticket()->set_destination_agent_id(b.host.agent_id());
  return {{a, b}};
}

class ViewTest : public ::testing::Test {
 protected:
  ViewTest() { view_.SetSnapshot(Troubled(), TestNow()); }

  std::vector<std::string> Lines(size_t width = 80, size_t height = 24) {
    const Screen screen = view_.Draw({width, height}, Glyphs());
    EXPECT_EQ(screen.lines.size(), height);
    for (const Line& line : screen.lines) {
      size_t cells = 0;
      for (const Span& span : line) cells += TextWidth(span.text);
      EXPECT_LE(cells, width) << TextOf(line);
    }
    return TextOf(screen);
  }
  std::string Text(size_t width = 80, size_t height = 24) {
    return absl::StrJoin(Lines(width, height), "\n");
  }
  void Type(const std::string& text) {
    for (const char c : text) view_.Handle(Press(c));
  }
  // The line in reverse below the first one.
  std::string Selected() {
    for (const Line& line : view_.Draw({80, 24}, Glyphs()).lines) {
      if (!line.empty() && line[0].reverse && !absl::StrContains(TextOf(line), "tscctl top"))
        return TextOf(line);
    }
    return "";
  }

  View view_;
};

TEST_F(ViewTest, At80x24AllThreePanesAreThereWithWhatIsWrongFirst) {
  EXPECT_THAT(
      Lines(),
      ElementsAre(" tscctl top  ! 1 handoff undecided, 1 agent away  2 hosts, 30 VMs  22:13:20 UTC",
                  "  Hosts 2 " + std::string(70, '-'),
                  "  HOST   CLOCK             BOUND     AGE   VMS        SEEN  NOTE",
                  "! beta   AWAY                  -       -     0  7.00 s ago  connection refused",
                  "  alpha  synchronised  +-20.0 us  1.20 s     0         now",
                  "  Handoffs 2 " + std::string(67, '-'),
                  "  VM     HOST   SIDE    STATE     PEER    ELAPSED  NOTE",
                  "! vm-12  alpha  source  CAPTURED  beta     2.00 s  UNDECIDED: resume/abort",
                  "  vm-11  alpha  source  CAPTURED  ?        2.00 s", HasSubstr("> VMs 30 "),
                  HasSubstr("  VM"), HasSubstr("  vm-10"), HasSubstr("  vm-11"),
                  HasSubstr("  vm-12"), HasSubstr("  vm-13"), HasSubstr("  vm-14"),
                  HasSubstr("  vm-15"), HasSubstr("  vm-16"), HasSubstr("  vm-17"),
                  HasSubstr("  vm-18"), HasSubstr("  vm-19"), HasSubstr("  vm-20"),
                  HasSubstr("  vm-21"), HasSubstr(" q quit   ? help   Tab pane")));
}

TEST_F(ViewTest, At120x40MoreColumnsAndAllRowsFindRoom) {
  const std::string text = Text(120, 40);
  EXPECT_THAT(text, AllOf(HasSubstr("alpha:50051"), HasSubstr("h-stuck"), HasSubstr("vm-36"),
                          HasSubstr("EPOCH"), HasSubstr("2,600,000 kHz")));
  EXPECT_THAT(text, HasSubstr("2 hosts, 30 VMs, 30 running, 2 handoffs pending"));
}

TEST_F(ViewTest, At40x10OnlyTheActivePaneIsThere) {
  EXPECT_THAT(Lines(40, 10), ElementsAre(HasSubstr("! 1 handoff"), HasSubstr("> VMs 30 -"),
                                         HasSubstr("STATE"), HasSubstr("vm-10"), HasSubstr("vm-11"),
                                         HasSubstr("vm-12"), HasSubstr("vm-13"), HasSubstr("vm-14"),
                                         HasSubstr("vm-15"), " q quit   ? help   Tab pane"));
  view_.Handle(Press(Key::Code::kTab));
  EXPECT_THAT(Text(40, 10),
              AllOf(HasSubstr("> Hosts 2"), HasSubstr("AWAY"), Not(HasSubstr("vm-1"))));
}

TEST_F(ViewTest, NoSizeIsTooSmall) {
  for (size_t width = 0; width < 30; ++width) {
    for (size_t height = 0; height < 14; ++height) {
      const Screen screen = view_.Draw({width, height}, UnicodeGlyphs());
      EXPECT_LE(screen.lines.size(), height);
    }
  }
}

TEST_F(ViewTest, UnicodeWhereTheTerminalKnowsIt) {
  const std::string text = absl::StrJoin(TextOf(view_.Draw({80, 24}, UnicodeGlyphs())), "\n");
  EXPECT_THAT(text,
              AllOf(HasSubstr("▶ VMs 30 ───"), HasSubstr("1-12 of 30 ──"), Not(HasSubstr("---"))));
}

TEST_F(ViewTest, TheSelectionStaysWithItsRowWhenTheTableChanges) {
  Lines();
  view_.Handle(Press(Key::Code::kDown));
  view_.Handle(Press('j'));
  EXPECT_THAT(Selected(), HasSubstr("vm-12"));
  Snapshot changed = Troubled();
  changed.agents[0].vms.erase(changed.agents[0].vms.begin());
  view_.SetSnapshot(changed, TestNow());
  EXPECT_THAT(Selected(), HasSubstr("vm-12"));
  changed.agents[0].vms.erase(changed.agents[0].vms.begin() + 1);
  view_.SetSnapshot(changed, TestNow());
  EXPECT_THAT(Selected(), HasSubstr("vm-13"));
}

TEST_F(ViewTest, TheListFollowsTheSelection) {
  Lines();
  view_.Handle(Press(Key::Code::kEnd));
  EXPECT_THAT(Selected(), HasSubstr("vm-39"));
  EXPECT_THAT(Text(), AllOf(HasSubstr(" 19-30 of 30 "), Not(HasSubstr("vm-27"))));
  view_.Handle(Press(Key::Code::kPageUp));
  EXPECT_THAT(Selected(), HasSubstr("vm-27"));
  view_.Handle(Press(Key::Code::kHome));
  EXPECT_THAT(Text(), HasSubstr(" 1-12 of 30 "));
}

TEST_F(ViewTest, TabGoesRoundAndNumbersGoStraight) {
  EXPECT_THAT(Text(), HasSubstr("> VMs"));
  view_.Handle(Press(Key::Code::kTab));
  EXPECT_THAT(Text(), HasSubstr("> Hosts"));
  view_.Handle(Press(Key::Code::kBackTab));
  EXPECT_THAT(Text(), HasSubstr("> VMs"));
  view_.Handle(Press('2'));
  EXPECT_THAT(Text(), HasSubstr("> Handoffs"));
}

TEST_F(ViewTest, SortGoesThroughTheColumnsAndBackToTheWorst) {
  view_.Handle(Press('1'));
  EXPECT_THAT(Lines()[3], HasSubstr("beta"));
  view_.Handle(Press('s'));
  EXPECT_THAT(Lines()[2], HasSubstr("HOST^"));
  EXPECT_THAT(Lines()[3], HasSubstr("alpha"));
  view_.Handle(Press('r'));
  EXPECT_THAT(Lines()[2], HasSubstr("HOSTv"));
  EXPECT_THAT(Lines()[3], HasSubstr("beta"));
  view_.Handle(Press('S'));
  EXPECT_THAT(Lines()[2], AllOf(Not(HasSubstr("^")), Not(HasSubstr("HOSTv"))));
  view_.Handle(Press('S'));
  EXPECT_THAT(Lines()[2], HasSubstr("NOTE^"));
}

TEST_F(ViewTest, AFilterIsTypedSeenAndTakenBack) {
  Lines();
  Type("/vm-2q");
  EXPECT_FALSE(view_.quit());
  view_.Handle(Press(Key::Code::kBackspace));
  const Screen screen = view_.Draw({80, 24}, Glyphs());
  EXPECT_EQ(screen.cursor_column, 5u);
  EXPECT_THAT(TextOf(screen.lines.back()), HasSubstr("/vm-2   Enter keep  Esc undo"));
  view_.Handle(Press(Key::Code::kEnter));
  EXPECT_THAT(Text(), AllOf(HasSubstr("> VMs 10 of 30  filter /vm-2"), HasSubstr("vm-29"),
                            Not(HasSubstr("vm-10"))));
  Type("/zzz");
  EXPECT_THAT(Text(), HasSubstr("none matches"));
  view_.Handle(Press(Key::Code::kEscape));
  EXPECT_THAT(Text(), HasSubstr("filter /vm-2"));
  view_.Handle(Press(Key::Code::kEscape));
  EXPECT_THAT(Text(), Not(HasSubstr("filter /")));
}

TEST_F(ViewTest, DetailsOfAHandoffSayHowToGoOn) {
  view_.Handle(Press('2'));
  Lines();
  view_.Handle(Press(Key::Code::kDown));
  view_.Handle(Press(Key::Code::kUp));
  view_.Handle(Press(Key::Code::kEnter));
  EXPECT_THAT(Text(), AllOf(HasSubstr("> Handoff h-stuck as alpha knows it"),
                            HasSubstr("tscctl resume h-stuck --from alpha:50051 --to beta:50051"),
                            HasSubstr("tscctl abort h-stuck --from alpha:50051 --to beta:50051"),
                            HasSubstr("Esc back")));
  view_.Handle(Press('q'));
  EXPECT_FALSE(view_.quit());
  EXPECT_THAT(Text(), HasSubstr("> Handoffs"));
}

TEST_F(ViewTest, DetailsOfWhatNobodySelectedAreOfTheFirstRow) {
  view_.Handle(Press('1'));
  Lines();
  view_.Handle(Press(Key::Code::kEnter));
  EXPECT_THAT(Text(), AllOf(HasSubstr("> Host beta"), HasSubstr("does not answer: connection"),
                            HasSubstr("7.00 s ago")));
}

TEST_F(ViewTest, DetailsOfWhatHasGoneSaySo) {
  Lines();
  view_.Handle(Press(Key::Code::kEnter));
  EXPECT_THAT(Text(), AllOf(HasSubstr("> VM vm-10 on alpha"), HasSubstr("cooperative")));
  Snapshot changed = Troubled();
  changed.agents[0].vms.clear();
  view_.SetSnapshot(changed, TestNow());
  EXPECT_THAT(Text(), AllOf(HasSubstr("> VM vm-10 on alpha"), HasSubstr("not there any more")));
}

TEST_F(ViewTest, DetailsScroll) {
  view_.Handle(Press('1'));
  Lines();
  view_.Handle(Press(Key::Code::kEnter));
  EXPECT_THAT(Text(80, 10), HasSubstr("1-7 of "));
  view_.Handle(Press(Key::Code::kDown));
  EXPECT_THAT(Text(80, 10), HasSubstr("2-8 of "));
  view_.Handle(Press(Key::Code::kEnd));
  EXPECT_THAT(Text(80, 10), HasSubstr("boot id"));
  view_.Handle(Press(Key::Code::kHome));
  EXPECT_THAT(Text(80, 10), HasSubstr("1-7 of "));
}

TEST_F(ViewTest, PausedNothingChanges) {
  view_.Handle(Press('p'));
  EXPECT_TRUE(view_.paused());
  const std::string before = Text();
  EXPECT_THAT(before, HasSubstr(" PAUSED"));
  view_.SetSnapshot({{MakeAgent("other")}}, TestNow());
  EXPECT_EQ(Text(), before);
  view_.Handle(Press(' '));
  view_.SetSnapshot({{MakeAgent("other")}}, TestNow());
  EXPECT_THAT(Text(), AllOf(HasSubstr("other"), HasSubstr(" ok "), HasSubstr("22:13:20 UTC")));
}

TEST_F(ViewTest, HelpExplainsTheKeys) {
  view_.Handle(Press('?'));
  EXPECT_THAT(Text(), AllOf(HasSubstr("> Keys"), HasSubstr("Shift-Tab"), HasSubstr("SILENT")));
  view_.Handle(Press(Key::Code::kEscape));
  EXPECT_THAT(Text(), HasSubstr("> VMs"));
}

TEST_F(ViewTest, QuitsAtQ) {
  view_.Handle(Press('q'));
  EXPECT_TRUE(view_.quit());
}

TEST_F(ViewTest, AnEmptyWorldHasNothingToSelect) {
  View view;
  view.SetSnapshot({}, TestNow());
  view.Draw({80, 24}, Glyphs());
  for (const Key::Code code : {Key::Code::kDown, Key::Code::kEnd, Key::Code::kEnter})
    view.Handle(Press(code));
  const std::string text = absl::StrJoin(TextOf(view.Draw({80, 24}, Glyphs())), "\n");
  EXPECT_THAT(text, AllOf(HasSubstr("Handoffs 0  none in progress"), HasSubstr("> VMs 0  none")));
}

}  // namespace
}  // namespace tsc_handoff::tscctl
