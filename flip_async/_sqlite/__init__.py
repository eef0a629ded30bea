"""One SQLite file, used by one thread of its own, and shared by leases."""
