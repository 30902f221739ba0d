"""Records, benchmark readers, the caption table, image decoding, synthetic pedestrians."""
