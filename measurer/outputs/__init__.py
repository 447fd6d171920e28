"""Effects -> world: `tor` sends commands to the Tor client, `far_end` runs far ends.

Messages go straight to the session client.
"""
