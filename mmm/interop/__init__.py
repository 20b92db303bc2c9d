"""Models of other runs and of other libraries, as parts of this one."""
