"""What a model is written as, one format a file; ``mmm.export`` chooses."""
