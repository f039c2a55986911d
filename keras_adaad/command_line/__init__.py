"""What the commands of `keras_adaad_cli` do."""
