"""Files and frames of bars as the world writes them: read, understood, and said how; bars as files of our own."""
