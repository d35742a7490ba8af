/* The public headers are C11, stand alone, and lay their structures out without padding. */
#include "client/vmm/tsc_vmm.h"
#include "client/vmm/tsc_wire.h"

#include "client/vmm/header_layout.h"

int default_config_is_complete_in_c(void);

/* A config that names nothing has every default. */
int default_config_is_complete_in_c(void) {
  struct tsc_vmm_config config = TSC_VMM_CONFIG_INIT;
  return config.size == sizeof(config) && config.vm_fd == -1 && config.vcpus == NULL &&
         config.ops == NULL && config.awaits_handoff == 0 && config.on_permit == NULL;
}
