"""What is measured on a network: units, spectra, cloning."""
