"""Everything hostile at once against agents that hand VMs over meanwhile, and an hour of faults."""
