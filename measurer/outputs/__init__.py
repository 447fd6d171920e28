"""Effects -> world: `tor` sends commands to the Tor client; messages go straight to the session client."""
