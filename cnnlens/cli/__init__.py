"""The command line: options from declared fields, one run for every method, errors as one line."""
