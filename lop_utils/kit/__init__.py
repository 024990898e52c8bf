"""The command line, notebook execution and the site."""
