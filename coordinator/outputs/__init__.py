"""Effects -> world: the Tor client (`tor_client`), the store's thread (`store_thread`), the directory (`relays`),
the v3bw file (`v3bw_file`).
"""
