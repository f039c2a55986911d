"""The command `keras-adaad`: its options, a file for each command.

It imports no Keras. It stands beside the package, because Python imports
`keras_adaad`, and so Keras and a backend, before any module in it: `--help`
would take seconds. What the commands do is in `keras_adaad.command_line`.
"""

from keras_adaad_cli import distil as distil
from keras_adaad_cli import evaluate as evaluate
from keras_adaad_cli import pack as pack
from keras_adaad_cli import teachers as teachers
from keras_adaad_cli import zoo as zoo
from keras_adaad_cli.distil import TRAINING as TRAINING
from keras_adaad_cli.group import main as main
