"""Training for certificates: attacks, objectives, schedules and the loop."""
