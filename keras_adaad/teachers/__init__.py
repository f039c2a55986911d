"""Which of several teachers suits a student."""

from keras_adaad.teachers.ranking import TeacherRanking as TeacherRanking
from keras_adaad.teachers.result import TeacherResult as TeacherResult
