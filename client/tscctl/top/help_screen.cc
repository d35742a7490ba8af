#include "client/tscctl/top/help_screen.h"

#include "absl/strings/str_cat.h"

namespace tsc_handoff::tscctl {

Details HelpScreen(const Glyphs& glyphs) {
  return {
      .title = "Keys",
      .lines = {
          {"Tab", "next pane; Shift-Tab the one before; 1 hosts, 2 handoffs, 3 VMs"},
          {absl::StrCat(glyphs.arrows, ", j k"), "select a row; PgUp, PgDn, Home, End"},
          {"Enter", "all that is known of it; Esc, Enter or q goes back"},
          {"/", "show only rows with these words; Enter keeps it, Esc removes it"},
          {"s, S", "sort by the next column, by the one before; first what is wrong comes first"},
          {"r", "sort the other way round"},
          {"p, Space", "pause and go on"},
          {"Ctrl-L", "draw everything anew"},
          {"q, Ctrl-C", "quit"},
          {"", ""},
          {"!  *", "something is wrong; something is to be looked at"},
          {"BOUND", "how far the host's clock may be from true time"},
          {"AGE", "how long ago the clock's source stated that"},
          {"SEEN", "when the agent answered last"},
          {"STATE", "of a VM: as its agent saw it last, for nobody disturbs it to ask"},
          {"SPREAD", "the largest difference between two vCPUs' TSCs, in ticks"},
          {"MASTER", "off: KVM's master clock cannot be on, since its vCPUs' TSCs differ"},
          {"ELAPSED", "since the handoff was begun; how long it took, once it is over"},
          {"SILENT", "how long nobody has gone on with it; then it is undecided"},
          {"EPOCH", "counts a VM's handoffs; the highest one is right"},
          {"", ""},
          {"",
           "A handoff that has ended stays for a minute. An agent that is away is asked on, and"
           " what it said last stays, fainter."},
      }};
}

}  // namespace tsc_handoff::tscctl
