"""How good a frozen model is: suites of named tasks, each a measure on a data set, with the same figure tomorrow."""
