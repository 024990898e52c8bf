"""One module per experiment: frozen config -> run(config, device) -> tidy frame."""
