// Prints tscctl's manual page and shell completions.
#include "client/tscctl/options.h"
#include "server/base/version.h"
#include "tools/clidoc/write_doc.h"

int main(int argc, char** argv) {
  namespace clidoc = tsc_handoff::clidoc;
  clidoc::CommandDoc program;
  tsc_handoff::tscctl::DescribeOptions(
      [&program](const CLI::App& app) { program = clidoc::Describe(app); });
  return clidoc::WriteDoc(argc, argv, program,
                          {.section = 1,
                           .summary = "move the TSCs of virtual machines between hosts",
                           .version = tsc_handoff::kVersion,
                           .see_also = {"tsc-agent(8)", "tsc_vmm(3)"}});
}
