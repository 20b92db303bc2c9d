"""One measure a file, a function ``measure`` each; found by scanning, never listed here."""
