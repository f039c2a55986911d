"""How a student is trained: the min-max step, and what surrounds it.

- `adversarial_training.py`: what a method states, and the step;
- `distiller.py`: the same with a teacher;
- `checked_calls.py`: `fit`, `evaluate` and `perturb`, checked before they run;
- `fit_arguments.py`: the arguments of one call of `fit` or `evaluate`;
- `batch_division.py`, `process_share.py`: these on several devices;
- `metrics.py`: which metrics each phase measures;
- `state.py`: what changes while a method trains, and how it is saved;
- `attack_arguments.py`: the attacks that a method is given;
- `regularizer.py`: terms that a distiller adds to its loss;
- `weight_perturbation.py`, `reference_passes.py`: options of some methods.
"""
