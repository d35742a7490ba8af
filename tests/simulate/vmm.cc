#include "tests/simulate/vmm.h"

namespace tsc_handoff::simulate {

void Vmm::ReadInbox() {
  for (const port::Permit& permit : inbox) {
    granted = permit.granted;
    due = false;
  }
  inbox.clear();
}

}  // namespace tsc_handoff::simulate
