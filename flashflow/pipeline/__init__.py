"""Staged worker pools: threads that take items from a bounded queue, work on them and pass them on.

Nothing here knows what an item is. A `Stage` (`stages`) is a name, a function and its settings; `Pipeline`
(`pipeline`) has the threads of all stages and one stop event; a stage with a `Source` also has a manager thread that
brings items. `queues` knows at every moment where each item is: waiting, in work, set aside, or out. `handover` is the
work of a last stage that gives its items to somebody else, such as an event loop, and waits for what comes of them.

An item that was put in comes out exactly once: through the last stage, set aside with its reason, or handed back by
`Pipeline.stop`.
"""
