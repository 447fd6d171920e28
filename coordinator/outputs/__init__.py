"""Effects -> world: the store's thread (`store_thread`), the directory (`relays`), the v3bw file (`v3bw_file`).

Commands go to the Tor client by flashflow.shell's `toroutput`.
"""
