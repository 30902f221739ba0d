"""The dual encoder, its tokenizer, and weights in and out."""
