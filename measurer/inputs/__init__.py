"""World -> events: `session` translates what the session with the coordinator tells."""
