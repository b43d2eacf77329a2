"""Walk-forward and cross-validation: parameters tested on sessions on which they were not chosen."""
