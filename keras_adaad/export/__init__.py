"""To the device: a student as a file, and that file on its runtime."""

from keras_adaad.export.exported import ExportedModel as ExportedModel
from keras_adaad.export.exported import load_exported as load_exported
from keras_adaad.export.student import export_student as export_student
