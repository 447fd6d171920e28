"""Effects -> world: `far_end` runs far ends.

Commands go to the Tor client by flashflow.shell's `toroutput`, messages straight to the session client.
"""
