"""World -> events: the control socket (`ctrl_server`). Measurers come through flashflow.shell.sessions, tor's events
through flashflow.shell.tordriver; `coordinator.app` translates both.
"""
