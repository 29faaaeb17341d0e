"""Caption metrics equal to pycocoevalcap's, with uncertainty and diagnostics."""
