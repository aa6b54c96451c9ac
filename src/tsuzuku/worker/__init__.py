"""The only process that loads torch and a person's code: one for each attempt."""
