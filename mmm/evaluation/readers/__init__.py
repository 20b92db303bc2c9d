"""One kind of data a file, a function ``read`` each; found by scanning, never listed here."""
