"""Planning, resuming, finishing and verifying of large corpora, each in a process of its own, against its bounds."""
