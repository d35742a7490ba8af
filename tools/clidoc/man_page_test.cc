#include "tools/clidoc/man_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tsc_handoff::clidoc {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CommandDoc Program() {
  CommandDoc program;
  program.name = "program";
  program.description = "What it does.\n\n.And more, with a \\ in it.";
  program.options = {{.names = {"-o", "--output"},
                      .value = "FORMAT",
                      .choices = {"table", "json"},
                      .help = "How to print"}};
  return program;
}

TEST(ManPage, HasTheSectionsThatMan7AsksFor) {
  const std::string page = ManPage(
      Program(), {.section = 8, .summary = "do it", .version = "1.2", .see_also = {"x(1)"}});
  EXPECT_THAT(page, HasSubstr(".TH PROGRAM 8 \"\" \"tsc\\-handoff 1.2\"\n"));
  EXPECT_THAT(page, HasSubstr(".SH NAME\nprogram \\- do it\n.SH SYNOPSIS\n.B program\n"));
  EXPECT_THAT(page, HasSubstr(".SH \"SEE ALSO\"\nx(1)\n"));
}

TEST(ManPage, AnOptionHasItsNamesItsValueAndItsChoices) {
  EXPECT_THAT(ManPage(Program(), {}),
              HasSubstr(".TP\n\\fB\\-o\\fR, \\fB\\-\\-output\\fR \\fIFORMAT\\fR\nHow to print\n"
                        "One of table, json.\n"));
}

TEST(ManPage, TextIsNeverTakenForARequest) {
  const std::string page = ManPage(Program(), {});
  EXPECT_THAT(page, HasSubstr("\n\\&.And more, with a \\e in it.\n"));
  EXPECT_THAT(page, Not(HasSubstr("\n.And")));
}

TEST(ManPage, TitlesInTheFooterBecomeSections) {
  CommandDoc program = Program();
  program.footer =
      "Examples:\n  program -o json\n\nExit status: 0 done.\n\nhttp://x/y: a "
      "URL";
  const std::string page = ManPage(program, {});
  EXPECT_THAT(page, HasSubstr(".SH EXAMPLES\n.PP\n.nf\n  program \\-o json\n.fi\n"));
  EXPECT_THAT(page, HasSubstr(".SH EXIT STATUS\n.PP\n.nf\n0 done.\n.fi\n"));
  EXPECT_THAT(page, HasSubstr(".SH NOTES\n.PP\n.nf\nhttp://x/y: a URL\n"));
}

TEST(ManPage, CommandsAreSubsectionsWithTheirArguments) {
  CommandDoc program = Program();
  program.commands = {{.name = "get",
                       .description = "Read",
                       .footer = "",
                       .options = {{.value = "VM", .required = true, .help = "The VM"}},
                       .commands = {}}};
  EXPECT_THAT(ManPage(program, {}),
              HasSubstr(".SS \\fBget\\fR \\fIVM\\fR\n.PP\nRead\n.TP\n\\fIVM\\fR\nThe VM\n"));
}

TEST(ManPage, WhatTheProgramsFooterSaysIsNotSaidAgainForEachCommand) {
  CommandDoc program = Program();
  program.footer = "Exit codes:\n  0 done";
  program.commands = {{.name = "get",
                       .description = "Read",
                       .footer = "Examples:\n  program get\n\nExit codes:\n  0 done",
                       .options = {},
                       .commands = {}}};
  const std::string page = ManPage(program, {});
  EXPECT_THAT(page, HasSubstr("program get"));
  EXPECT_EQ(page.find("EXIT CODES"), page.rfind("EXIT CODES"));
}

}  // namespace
}  // namespace tsc_handoff::clidoc
