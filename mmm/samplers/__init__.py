"""One concept a file; found by scanning, never listed here."""
