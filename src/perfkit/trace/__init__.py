"""What happened in a while: which statements ran, and which of them loaded what for whom."""
