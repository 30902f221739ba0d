"""What scores the words of captions: how badly each fits its image, by methods that `masking.scorer` chooses among.

`patches` is the paper's, and `attention` ranks like it. The others give *evidence* in nats that a word is wrong, which
adds up: of the model (`leave_one_out`, `gradient`), of what the images of a word have in common (`discriminant`), and
of an image's other captions (`votes`). `centred` and `posterior` make of it what masks; `scorer` says what a scorer
is, `choice` makes it.
"""
