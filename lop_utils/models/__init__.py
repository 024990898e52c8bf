"""Networks that declare their unit spaces."""
