"""What the agent's transport must not permit, tried from outside with other programs than its own."""
