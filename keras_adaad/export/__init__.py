"""Exports a student to a file, and runs the file on its runtime."""

from keras_adaad.export.exported import ExportedModel as ExportedModel
from keras_adaad.export.exported import load_exported as load_exported
from keras_adaad.export.student import export_student as export_student
