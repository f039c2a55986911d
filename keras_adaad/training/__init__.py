"""How a student is trained: the min-max step and its supporting modules.

Begin with `adversarial_training.py`, the base class of all methods, and
`distiller.py`, the base class of those with a teacher. `learning_teacher.py` is
that of those whose teacher is trained too.
"""
