"""Models that come with Tsuzuku: one plain file each, written as a user would write one."""
