"""What is asked of a gallery beyond one sentence, as functions of features: no files and no database in here."""
