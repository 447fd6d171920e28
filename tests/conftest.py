"""What holds for every test."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # in the background of a shell: what a test starts, and interrupts, would ignore it as well
    signal.signal(signal.SIGINT, signal.default_int_handler)
