"""What a model makes of a picture and its captions."""
