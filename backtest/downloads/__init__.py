"""Downloads of the bars that a store lacks, and imports of files."""
