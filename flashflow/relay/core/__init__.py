"""Pure: events in, effects out, time as an argument. `state` is the relay's part in a measurement."""
