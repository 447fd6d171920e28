"""World -> events: the control socket (`ctrl_server`), relays that come and go (`relay_pipeline`). Measurers come through
flashflow.shell.sessions, tor's events through flashflow.shell.tordriver; `coordinator.app` translates both.
"""
