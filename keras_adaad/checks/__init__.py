"""Checks that reject bad input before any work starts.

Every message names the argument, the value received and the fix.
"""

from keras_adaad.checks.arguments import check_choice as check_choice
from keras_adaad.checks.arguments import check_file_path as check_file_path
from keras_adaad.checks.arguments import check_input_range as check_input_range
from keras_adaad.checks.arguments import check_integer as check_integer
from keras_adaad.checks.arguments import check_number as check_number
from keras_adaad.checks.arguments import check_tuple as check_tuple
from keras_adaad.checks.data import are_valid as are_valid
from keras_adaad.checks.data import check_images as check_images
from keras_adaad.checks.data import check_labels as check_labels
from keras_adaad.checks.data import check_loss as check_loss
from keras_adaad.checks.data import check_numbers as check_numbers
from keras_adaad.checks.data import check_targets as check_targets
from keras_adaad.checks.data import first_batch as first_batch
from keras_adaad.checks.data import is_array as is_array
from keras_adaad.checks.models import check_classifier as check_classifier
from keras_adaad.checks.models import (
    check_final_activation as check_final_activation,
)
from keras_adaad.checks.models import check_logits as check_logits
from keras_adaad.checks.models import check_model as check_model
from keras_adaad.checks.models import check_one_input as check_one_input
from keras_adaad.checks.models import check_one_output as check_one_output
from keras_adaad.checks.models import check_pair as check_pair
from keras_adaad.checks.models import check_same_classes as check_same_classes
from keras_adaad.checks.models import is_classifier as is_classifier
from keras_adaad.checks.models import output_shape as output_shape
