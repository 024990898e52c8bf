"""One function per figure: tidy frame in, matplotlib figure out."""
