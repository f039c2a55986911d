"""`python -m keras_adaad_cli`."""

from keras_adaad_cli.group import main

if __name__ == "__main__":
    main()
