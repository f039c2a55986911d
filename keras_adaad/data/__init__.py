"""Image data sets for `fit`, with the papers' augmentation."""

from keras_adaad.data.from_arrays import load_arrays as load_arrays
from keras_adaad.data.from_arrays import to_arrays as to_arrays
from keras_adaad.data.from_folder import load_folder as load_folder
from keras_adaad.data.from_tfds import load_tfds as load_tfds
from keras_adaad.data.near_duplicates import near_duplicates as near_duplicates
from keras_adaad.data.set_epoch import SetEpoch as SetEpoch
