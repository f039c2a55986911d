"""`python -m keras_adaad.zoo`: the same as `keras-adaad zoo`."""

import sys

from keras_adaad_cli import main

if __name__ == "__main__":
    main(["zoo", *sys.argv[1:]])
