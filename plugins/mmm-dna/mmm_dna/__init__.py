"""DNA for mmm: nucleotides, k-mers or BPE; FASTA in; both strands."""
