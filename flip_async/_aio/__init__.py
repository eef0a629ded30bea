"""Tasks, timers, and what belongs to an event loop: the only place that makes them."""
