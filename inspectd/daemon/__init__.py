"""The running station: threads, life cycle, signals, systemd."""
