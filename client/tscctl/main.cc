// tscctl: the operator's command line. See tscctl.h.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/lib/agent_client.h"
#include "client/tscctl/tscctl.h"

int main(int argc, char** argv) {
  tsc_handoff::client::QuietGrpcLog();
  tsc_handoff::tscctl::Environment environment;
  for (const char* name :
       {"TSC_AGENT", "TSC_TLS_CA", "TSC_TLS_CERT", "TSC_TLS_KEY", "TSC_TLS_SERVER_NAME",
        "TSCCTL_CONFIG", "XDG_CONFIG_HOME", "HOME", "NO_COLOR"}) {
    if (const char* value = std::getenv(name); value != nullptr)
      environment.variables[name] = value;
  }
  environment.stdout_is_terminal = isatty(STDOUT_FILENO) == 1;
  environment.stdout_fd = STDOUT_FILENO;
  environment.stderr_is_terminal = isatty(STDERR_FILENO) == 1;
  const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
  return tsc_handoff::tscctl::RunTscctl(args, std::cout, std::cerr, environment);
}
