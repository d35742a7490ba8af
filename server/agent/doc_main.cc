// Prints tsc-agent's manual page and shell completions.
#include "server/agent/options.h"
#include "server/base/version.h"
#include "tools/clidoc/write_doc.h"

int main(int argc, char** argv) {
  namespace clidoc = tsc_handoff::clidoc;
  clidoc::CommandDoc program;
  tsc_handoff::agent::DescribeCommandLine(
      [&program](const CLI::App& app) { program = clidoc::Describe(app); });
  return clidoc::WriteDoc(argc, argv, program,
                          {.section = 8,
                           .summary = "hand over the TSCs of this host's virtual machines",
                           .version = tsc_handoff::kVersion,
                           .see_also = {"tscctl(1)", "tsc_vmm(3)", "systemctl(1)"}});
}
